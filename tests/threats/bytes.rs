//! The rows that need nothing but bytes: each is sent to a running egressd.

use crate::check::{holds, holds_with};
use crate::suite::catalogue::PTR;

#[test]
fn t01_another_server_name_than_the_host() {
    holds(1);
}

#[test]
fn t02_a_host_inside_tls_is_not_seen() {
    holds(2);
}

#[test]
fn t03_an_absolute_uri_and_another_host() {
    holds(3);
}

#[test]
fn t04_no_host_two_and_a_list() {
    holds(4);
}

#[test]
fn t05_connect_decides_on_its_target_alone() {
    holds(5);
}

#[test]
fn t06_encrypted_client_hello() {
    holds(6);
}

#[test]
fn t07_no_server_name() {
    holds(7);
}

#[test]
fn t08_odd_server_names() {
    holds(8);
}

#[test]
fn t09_hello_over_many_segments() {
    holds(9);
}

#[test]
fn t10_hello_over_many_records() {
    holds(10);
}

#[test]
fn t11_a_second_hello_after_a_retry_request() {
    holds(11);
}

#[test]
fn t12_an_sslv2_hello() {
    holds(12);
}

#[test]
fn t13_what_is_not_tls() {
    holds(13);
}

#[test]
fn t14_a_client_or_server_that_waits() {
    holds_with(14, "tunnel: {client_hello_timeout: 500ms}\n");
}

#[test]
fn t15_a_target_that_only_pretends_to_speak_tls() {
    holds(15);
}

#[test]
fn t16_ports_and_schemes_swapped() {
    holds(16);
}

#[test]
fn t17_other_schemes() {
    holds(17);
}

#[test]
fn t18_user_information() {
    holds(18);
}

#[test]
fn t19_bad_ports() {
    holds(19);
}

#[test]
fn t20_a_pivot_to_another_port() {
    holds(20);
}

#[test]
fn t21_a_domain_that_only_ends_alike() {
    holds(21);
}

#[test]
fn t24_the_apex_of_a_pattern() {
    holds(24);
}

#[test]
fn t25_trailing_dots() {
    holds(25);
}

#[test]
fn t26_a_name_in_brackets() {
    holds(26);
}

#[test]
fn t27_nul_percent_and_other_ends() {
    holds(27);
}

#[test]
fn t28_homographs() {
    holds(28);
}

#[test]
fn t29_lengths_and_underscores() {
    holds(29);
}

#[test]
fn t30_spellings_of_ipv4() {
    holds(30);
}

#[test]
fn t31_an_address_for_a_host() {
    holds(31);
}

#[test]
fn t32_a_zone() {
    holds(32);
}

#[test]
fn t33_search_domains() {
    holds(33);
}

#[test]
fn t36_rebinding() {
    holds(36);
}

#[test]
fn t37_right_and_wrong_addresses_mixed() {
    holds(37);
}

#[test]
fn t38_a_name_that_resolves_to_an_internal_address() {
    holds(38);
}

#[test]
fn t39_instance_metadata() {
    holds(39);
}

#[test]
fn t40_credential_endpoints() {
    holds(40);
}

#[test]
fn t41_ipv4_within_ipv6() {
    holds(41);
}

#[test]
fn t42_nat64_6to4_teredo_isatap() {
    holds(42);
}

#[test]
fn t43_special_ranges() {
    holds(43);
}

#[test]
fn t45_nothing_is_served_on_the_proxy_port() {
    holds(45);
}

#[test]
fn t46_a_parent_of_the_clients_choice() {
    holds(46);
}

#[test]
fn t48_lengths_that_disagree() {
    holds(48);
}

#[test]
fn t49_chunks() {
    holds(49);
}

#[test]
fn t50_lines() {
    holds(50);
}

#[test]
fn t51_an_error_denies() {
    holds(51);
}

#[test]
fn t52_connection_nominating() {
    holds(52);
}

#[test]
fn t53_upgrade_smuggling() {
    holds(53);
}

#[test]
fn t54_early_data() {
    holds(54);
}

#[test]
fn t55_pipelining_after_a_denial() {
    holds(55);
}

#[test]
fn t56_connect_with_a_body() {
    holds(56);
}

#[test]
fn t57_trace_max_forwards_and_options() {
    holds(57);
}

#[test]
fn t58_a_reused_connection_is_judged_anew() {
    holds(58);
}

#[test]
fn t59_http_2() {
    holds(59);
}

#[test]
fn t60_nothing_of_the_request_comes_back() {
    holds(60);
}

#[test]
fn t61_proxy_credentials() {
    holds(61);
}

#[test]
fn t63_giant_heads() {
    holds(63);
}

#[test]
fn t66_names_that_carry_data() {
    holds(66);
}

#[test]
fn t68_log_injection() {
    holds(68);
}

#[test]
fn t70_nobody_pretends_to_be_another() {
    holds(70);
}

#[test]
fn t00_no_ptr_record_is_ever_asked_for() {
    holds(PTR);
}
