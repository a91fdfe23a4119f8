use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::words::aws::{Regions, Signer};

const HOST: &str = "git-codecommit.ap-northeast-1.amazonaws.com";
const KEY: &str = "ASIAY34FZKBOKMUTVV7A";
const SIGNATURE: &str = "c6b9df2c5e7e0ab1e5b1d8f5b4e0b4ef7f2d9c3e1f2a4b5c6d7e8f9a0b1c2d3e";

type Told = Result<(String, String, String), CredentialsError>;

fn told(query: Option<&str>, fields: &[(&str, &str)]) -> Told {
    let request = read(HOST, query, fields.iter().map(|(name, value)| (*name, value.as_bytes())))?;
    let signer = match &request.signer {
        Signer::Key(id) => id.to_string(),
        Signer::GitUser { user, account } => format!("{user} of {account}"),
    };
    Ok((signer, request.service.to_string(), request.regions.to_string()))
}

fn ok(signer: &str, service: &str, region: &str) -> Told {
    Ok((signer.to_owned(), service.to_owned(), region.to_owned()))
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:password")))
}

fn sigv4(scope: &str, signed: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={SIGNATURE}")
}

fn scope(service: &str) -> String {
    format!("{KEY}/20261130/eu-central-1/{service}/aws4_request")
}

#[test]
fn a_user_of_basic_is_one_of_two() {
    let of = |account: &str, user: &str| ok(&format!("{user} of {account}"), "codecommit", "ap-northeast-1");
    let rows: &[(&str, Told)] = &[
        ("mirror-at-123456789012", of("123456789012", "mirror-at-123456789012")),
        ("anika+1-at-123456789012", of("123456789012", "anika+1-at-123456789012")),
        ("a_b=c,d.e@f-g-at-000000000001", of("000000000001", "a_b=c,d.e@f-g-at-000000000001")),
        // The last one is the account that CodeCommit looks in.
        ("x-at-111111111111-at-222222222222", of("222222222222", "x-at-111111111111-at-222222222222")),
        (KEY, ok(KEY, "codecommit", "ap-northeast-1")),
        (
            &format!("{KEY}%IQoJb3JpZ2luX2Vj//////////wEaCXVz+token=="),
            ok(KEY, "codecommit", "ap-northeast-1"),
        ),
        (&format!("{KEY}%x-at-123456789012"), ok(KEY, "codecommit", "ap-northeast-1")),
        ("-at-123456789012", Err(CredentialsError::User)),
        ("mirror-at-12345678901", Err(CredentialsError::User)),
        ("mirror-at-1234567890123", Err(CredentialsError::User)),
        ("mirror-at-123456789012 ", Err(CredentialsError::User)),
        ("mirror-AT-123456789012", Err(CredentialsError::User)),
        ("mirror-at-12345678901２", Err(CredentialsError::User)),
        ("mïrror-at-123456789012", Err(CredentialsError::User)),
        ("mir ror-at-123456789012", Err(CredentialsError::User)),
        ("mirror/x-at-123456789012", Err(CredentialsError::User)),
        (&format!("{KEY}%"), Err(CredentialsError::User)),
        (&format!("{KEY}% x"), Err(CredentialsError::User)),
        (&format!("{KEY}x"), Err(CredentialsError::User)),
        (&format!(" {KEY}"), Err(CredentialsError::User)),
        ("AROAQNZGKIQY56JQ7WML", Err(CredentialsError::User)),
        // ECR, whose account is in its host.
        ("AWS", Err(CredentialsError::User)),
        ("", Err(CredentialsError::User)),
    ];
    for (user, want) in rows {
        assert_eq!(told(None, &[("authorization", &basic(user))]), *want, "{user}");
    }
    // What a session token makes long, and what is not base64.
    let long = format!("{KEY}%{}", "t".repeat(4_000));
    assert_eq!(told(None, &[("Authorization", &basic(&long))]), ok(KEY, "codecommit", "ap-northeast-1"));
    for bad in ["Basic", "Basic !", "Basic YTpi=", "Basic bWlycm9y", "Basic /zo="] {
        assert!(
            matches!(told(None, &[("Authorization", bad)]), Err(CredentialsError::Malformed(_))),
            "{bad}"
        );
    }
    // Elsewhere the region is not known.
    let value = basic("mirror-at-123456789012");
    let at_another = read("git.example", None, [("authorization", value.as_bytes())].into_iter());
    assert_eq!(at_another.unwrap().regions, Regions::Unknown);
}

#[test]
fn a_signature_is_read_strictly() {
    let s3 = ok(KEY, "s3", "eu-central-1");
    let good = sigv4(&scope("s3"), "host;x-amz-content-sha256;x-amz-date");
    let malformed = |value: &str| {
        let told = told(None, &[("Authorization", value)]);
        assert!(matches!(told, Err(CredentialsError::Malformed(_))), "{value}: {told:?}");
    };
    for value in [&good, &good.replace(", ", ","), &good.replace(", ", " , ")] {
        assert_eq!(told(None, &[("Authorization", value)]), s3, "{value}");
    }
    let swapped =
        format!("AWS4-HMAC-SHA256 Signature={SIGNATURE},SignedHeaders=host,Credential={}", scope("s3"));
    assert_eq!(told(None, &[("Authorization", &swapped)]), s3);
    let request = read(HOST, None, [("authorization", good.as_bytes())].into_iter()).unwrap();
    assert!(request.covers("x-amz-date") && !request.covers("user-agent"));

    for (from, to) in [
        ("Credential=", "credential="),
        (", Signature=", ", Signature=0, Signature="),
        ("SignedHeaders=", "Credential=x, SignedHeaders="),
        (", Signature=", ", X=1, Signature="),
        ("host;", ""),
        ("host;", "host;host;"),
        ("host;", "Host;"),
        ("host;x-amz-content-sha256;x-amz-date", "x-amz-date;host"),
        ("host;", "host;;"),
        ("/eu-central-1", ""),
        ("/eu-central-1", "/*"),
        ("/eu-central-1", "/eu-central-1/x"),
        ("20261130", "2026113"),
        ("20261130", "2026113x"),
        ("aws4_request", "aws4_requests"),
        ("/s3/", "//"),
        ("/s3/", "/s3%2f/"),
        ("ASIA", "AROA"),
        ("ASIA", "asia"),
        ("Signature=c6", "Signature=C6"),
        ("Signature=c6", "Signature="),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 \t"),
    ] {
        let value = good.replace(from, to);
        assert_ne!(value, good, "{from}");
        if value.starts_with("AWS4-HMAC-SHA256C") {
            assert_eq!(told(None, &[("Authorization", &value)]), Err(CredentialsError::OtherScheme));
        } else {
            malformed(&value);
        }
    }
    malformed(good.split(", Signature").next().unwrap());
    malformed("AWS4-HMAC-SHA256");
}

#[test]
fn sigv4a_names_its_regions_beside_it() {
    let scope = format!("{KEY}/20261130/s3/aws4_request");
    let value = |signed: &str| {
        format!(
            "AWS4-ECDSA-P256-SHA256 Credential={scope}, SignedHeaders={signed}, Signature=3045{SIGNATURE}"
        )
    };
    let good = value("host;x-amz-region-set");
    let regions = ("X-Amz-Region-Set", "eu-central-1, us-*");
    assert_eq!(told(None, &[("Authorization", &good), regions]), ok(KEY, "s3", "eu-central-1,us-*"));
    assert_eq!(told(None, &[("Authorization", &good), ("x-amz-region-set", "*")]), ok(KEY, "s3", "*"));
    for fields in [
        &[("Authorization", &*good)][..],
        &[("Authorization", &good), regions, regions],
        &[("Authorization", &good), ("X-Amz-Region-Set", "")],
        &[("Authorization", &good), ("X-Amz-Region-Set", "a,,b")],
        &[("Authorization", &value("host")), regions],
    ] {
        assert!(matches!(told(None, fields), Err(CredentialsError::Malformed(_))), "{fields:?}");
    }
}

pub(super) fn presigned() -> String {
    format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date=20261130T000000Z&X-Amz-Expires=900\
         &X-Amz-SignedHeaders=host&X-Amz-Security-Token=a%2Bb%3D&X-Amz-Signature={SIGNATURE}",
        scope("s3").replace('/', "%2F")
    )
}

#[test]
fn a_presigned_query_is_read_strictly() {
    let good = presigned();
    let s3 = ok(KEY, "s3", "eu-central-1");
    assert_eq!(told(Some(&good), &[]), s3);
    assert_eq!(told(Some(&good.replace("%2F", "/")), &[]), s3);
    assert_eq!(told(Some(&format!("list-type=2&prefix=a%20b&{good}&x-id=GetObject")), &[]), s3);
    let sigv4a = good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256").replace("%2Feu-central-1", "")
        + "&X-Amz-Region-Set=%2A";
    assert_eq!(told(Some(&sigv4a), &[]), ok(KEY, "s3", "*"));
    for (from, to) in [
        ("X-Amz-Credential", "x-amz-credential"),
        ("X-Amz-Credential", "X%2DAmz-Credential"),
        ("X-Amz-Credential", "+X-Amz-Credential"),
        ("X-Amz-Date", "X-Amz-Credential=x&X-Amz-Date"),
        ("X-Amz-Date", "x-aMz-crEdential=x&X-Amz-Date"),
        ("X-Amz-Date", "X-Amz-%43redential=x&X-Amz-Date"),
        ("X-Amz-Date", "a=1;X-Amz-Credential=x&X-Amz-Date"),
        ("X-Amz-Date", "%zz=1&X-Amz-Date"),
        ("X-Amz-Date", "X-Amz-Region-Set=*&X-Amz-Date"),
        ("X-Amz-Date=20261130T000000Z&", ""),
        ("X-Amz-Signature=", "X-Amz-Sign="),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("ASIA", "ASI%zz"),
    ] {
        let query = good.replace(from, to);
        let told = told(Some(&query), &[]);
        assert!(matches!(told, Err(CredentialsError::Malformed(_))), "{query}: {told:?}");
    }
}

#[test]
fn credentials_are_in_one_place() {
    let (user, signed, query) = (basic("mirror-at-123456789012"), sigv4(&scope("s3"), "host"), presigned());
    let two = Err(CredentialsError::TwoPlaces);
    type Row<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], Told);
    let rows: &[Row<'_>] = &[
        (None, &[], Err(CredentialsError::None)),
        (Some("x=1"), &[("accept", "*/*")], Err(CredentialsError::None)),
        (None, &[("Cookie", "a=b")], Err(CredentialsError::Cookie)),
        (None, &[("Authorization", &user), ("authorization", &signed)], two.clone()),
        (None, &[("Authorization", &user), ("AUTHORIZATION", &user)], two.clone()),
        (None, &[("Authorization", &user), ("cookie", "a=b")], two.clone()),
        (Some(&query), &[("Authorization", &signed)], two.clone()),
        (Some(&query), &[("Cookie", "")], two.clone()),
        (Some("X-Amz-Security-Token=x"), &[("Authorization", &signed)], two),
        (Some("AWSAccessKeyId=x&Signature=y"), &[], Err(CredentialsError::SigV2)),
        (Some("Signature=y"), &[("Authorization", &signed)], Err(CredentialsError::SigV2)),
        (Some("access_token=x"), &[("Authorization", &signed)], Err(CredentialsError::Bearer)),
        (None, &[("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:c2ln")], Err(CredentialsError::SigV2)),
        (None, &[("Authorization", "Bearer x")], Err(CredentialsError::Bearer)),
        (None, &[("Authorization", "bearer x")], Err(CredentialsError::Bearer)),
        (None, &[("Authorization", "Negotiate x")], Err(CredentialsError::OtherScheme)),
        (None, &[("Authorization", "")], Err(CredentialsError::OtherScheme)),
        (None, &[("Authorization", "aws4-hmac-sha256 x")], Err(CredentialsError::OtherScheme)),
        (
            None,
            &[("Authorization", "Basic é")],
            Err(CredentialsError::Malformed("an Authorization that is not printable ASCII")),
        ),
    ];
    for (query, fields, want) in rows {
        assert_eq!(told(*query, fields), *want, "{query:?} {fields:?}");
    }
}

proptest! {
    /// Whatever user Basic carries, the account is the twelve digits at its end, or there is none.
    #[test]
    fn the_account_of_a_user_is_at_its_end(user in r"[a-z+%-]{0,6}(-at-[0-9]{11,13}){0,3}[ x]{0,1}") {
        match told(None, &[("Authorization", &basic(&user))]) {
            Ok((signer, ..)) => {
                let account = &user[user.len() - 12..];
                prop_assert_eq!(signer, format!("{user} of {account}"));
                prop_assert!(user[..user.len() - 12].ends_with("-at-") && !user.contains('%'));
            }
            Err(error) => prop_assert_eq!(error, CredentialsError::User),
        }
    }

    /// A second credential is never overlooked, however its name is spelled.
    #[test]
    fn no_spelling_of_a_name_hides_credentials(
        name in prop::sample::select(&["X-Amz-Credential", "X-Amz-Signature", "AWSAccessKeyId", "access_token"][..]),
        encode in prop::collection::vec(0..3_u8, 16),
        before in "[a-z]{0,3}",
    ) {
        let spelled: String = name.chars().zip(encode).map(|(c, how)| match how {
            0 => c.to_string(),
            1 => format!("%{:02x}", c as u32),
            _ => c.to_ascii_uppercase().to_string(),
        }).collect();
        let signed = sigv4(&scope("s3"), "host");
        let query = format!("{before}=1&{spelled}=x");
        prop_assert!(told(Some(&query), &[("Authorization", &signed)]).is_err(), "{}", query);
    }
}

#[test]
fn what_is_judged_is_the_one_place_that_carries_credentials() {
    let (signed, query) = (sigv4(&scope("s3"), "host"), presigned());
    let own = ("Authorization", signed.as_str());
    let long_lived = signed.replace(KEY, "AKIAY34FZKBOKMUTVV7A");
    let git = basic("mirror-at-123456789012");
    let two = Err(CredentialsError::TwoPlaces);
    let s3 = ok(KEY, "s3", "eu-central-1");
    let token = ("X-Amz-Security-Token", "IQoJ");
    let parts = "Multipart/Form-Data; boundary=x";
    type Row<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], Told);
    let rows: &[Row<'_>] = &[
        // A session's key comes with its token, in a field or in the query.
        (None, &[own, token], s3.clone()),
        (None, &[own, ("x-amz-s3session-token", "IQoJ")], s3.clone()),
        (None, &[own, token, token], Err(CredentialsError::Token)),
        (None, &[own, token, ("x-amz-s3session-token", "IQoJ")], Err(CredentialsError::Token)),
        (None, &[("Authorization", &long_lived), token], Err(CredentialsError::Token)),
        (None, &[("Authorization", &git), token], Err(CredentialsError::Token)),
        (None, &[token], Err(CredentialsError::Elsewhere)),
        (Some(&query), &[token], two.clone()),
        (Some(&format!("{query}&X-Amz-S3session-Token=x")), &[], Err(CredentialsError::Token)),
        // A form of S3, whatever else the request has.
        (None, &[own, ("Content-Type", parts)], Err(CredentialsError::Parts)),
        (Some(&query), &[("content-type", "text/plain, multipart/form-data")], Err(CredentialsError::Parts)),
        (None, &[("Content-Type", parts)], Err(CredentialsError::Parts)),
        (None, &[own, ("Content-Type", "application/xml")], s3.clone()),
        // Signature version 3, and names that only look like those.
        (None, &[own, ("X-Amzn-Authorization", "AWS3 AWSAccessKeyId=x")], two.clone()),
        (None, &[("X-Amzn-Authorization", "AWS3 AWSAccessKeyId=x")], Err(CredentialsError::Elsewhere)),
        (None, &[own, ("X_Amz_Security_Token", "x")], two.clone()),
        (None, &[own, ("X-Amz-Credential", "x")], two.clone()),
        (None, &[own, ("x-amz-sso_bearer_token", "x")], two.clone()),
        (None, &[own, ("Cookie2", "$Version=1")], two.clone()),
        (None, &[("Cookie2", "$Version=1")], Err(CredentialsError::Cookie)),
        // That of egressd is not sent on.
        (None, &[own, ("Proxy-Authorization", "Basic eDp5")], s3.clone()),
        (None, &[own, ("X-Amz-Date", "20261130T000000Z"), ("X-Amz-Content-Sha256", "x")], s3),
        (Some("SecurityToken=x"), &[own], Err(CredentialsError::SigV2)),
        (Some("Action=AssumeRoleWithWebIdentity&WebIdentityToken=x"), &[own], Err(CredentialsError::Bearer)),
        (Some("x-amzn-authorization=x"), &[own], Err(CredentialsError::Bearer)),
    ];
    for (query, fields, want) in rows {
        assert_eq!(told(*query, fields), *want, "{query:?} {fields:?}");
    }
}

/// Where credentials of another account may be put beside those that are judged.
#[derive(Clone, Debug)]
enum Put {
    Field(&'static str),
    Query(&'static str),
    Form(&'static str),
    Parts,
}

/// Fields that say what a body is, or that do not: of each a service may read a form.
fn content_type() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec!["content-type", "Content-Type", "content_type", "CONTENT.TYPE"]);
    let value = prop_oneof![
        // A form's, in any case, with whatever else.
        (
            prop::collection::vec(any::<bool>(), 33),
            "[ ;,]{0,2}",
            "(; ?charset=(utf-8|\"UTF-8\"|utf-7|x|)|;a=b|, text/xml|)"
        )
            .prop_map(|(upper, before, after)| {
                let word = "application/x-www-form-urlencoded".chars().zip(upper);
                let word: String =
                    word.map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c }).collect();
                format!("{before}{word}{after}")
            }),
        // What says nothing.
        prop::sample::select(vec![
            "",
            " ",
            "text/plain",
            "text/plain; charset=utf-8",
            "*/*",
            "form",
            "/",
            "application/*",
            "a/b/json",
            "json"
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,5}/[a-wyz]{1,5}".prop_filter("a known one", |value| !is_known(value)),
    ];
    let coding = prop::sample::select(vec!["", "identity", "gzip"]);
    let coding = coding.prop_map(|coding| ("content-encoding".to_owned(), coding.to_owned()));
    let types = prop::collection::vec((name.prop_map(str::to_owned), value), 0..3);
    (types, prop::option::of(coding)).prop_map(|(types, coding)| types.into_iter().chain(coding).collect())
}

/// Whether a body of this type is what it says.
fn is_known(value: &str) -> bool {
    form("POST", [("content-type", value.as_bytes())].into_iter()).is_none()
}

proptest! {
    /// Whatever carries them, however its name is spelled, whatever the body says that it is, and whichever place the own credentials are in.
    #[test]
    fn credentials_beside_the_judged_ones_are_refused(
        own in 0..3_usize,
        put in prop::sample::select(vec![
            Put::Field("Authorization"),
            Put::Field("X-Amzn-Authorization"),
            Put::Field("Cookie"),
            Put::Field("Cookie2"),
            Put::Field("X-Amz-Credential"),
            Put::Field("X-Amz-Signature"),
            Put::Query("X-Amz-Credential"),
            Put::Query("X-Amz-Signature"),
            Put::Query("X-Amz-Security-Token"),
            Put::Query("X-Amz-S3session-Token"),
            Put::Query("AWSAccessKeyId"),
            Put::Query("Signature"),
            Put::Query("access_token"),
            Put::Query("WebIdentityToken"),
            Put::Form("AWSAccessKeyId"),
            Put::Form("X-Amz-Credential"),
            Put::Form("SAMLAssertion"),
            Put::Parts,
        ]),
        spelling in prop::collection::vec(0..5_u8, 24),
        typed in content_type(),
        method in prop::sample::select(vec!["POST", "PATCH", "DELETE", "X"]),
        between in prop::sample::select(vec!["&", ";"]),
        twice in any::<bool>(),
    ) {
        // Fields of HTTP are spelled in any case, and programs may fold what separates their words.
        let field = |name: &str| -> String {
            name.chars().zip(spelling.iter().cycle()).map(|(c, how)| match how {
                0 => c.to_ascii_uppercase(),
                1 if c == '-' => '_',
                2 if c == '-' => '.',
                _ => c,
            }).collect()
        };
        let parameter = |name: &str| -> String {
            name.chars().zip(spelling.iter().cycle()).map(|(c, how)| match how {
                0 => format!("%{:02x}", u32::from(c)),
                1 => format!("%25{:02X}", u32::from(c)),
                2 => c.to_ascii_uppercase().to_string(),
                3 if matches!(c, '-' | '_') => if c == '-' { "_".to_owned() } else { "-".to_owned() },
                _ => c.to_string(),
            }).collect()
        };
        let (signed, git) = (sigv4(&scope("s3"), "host"), basic("mirror-at-123456789012"));
        let (mut fields, mut query): (Vec<(String, String)>, String) = match own {
            0 => (vec![("authorization".to_owned(), signed)], "a=1".to_owned()),
            1 => (vec![("authorization".to_owned(), git)], "a=1".to_owned()),
            _ => (Vec::new(), presigned()),
        };
        let mut body = "Action=x".to_owned();
        // Whatever it says of itself, unless that is something else than a form.
        fields.extend(typed);
        for _ in 0..1 + usize::from(twice) {
            match &put {
                Put::Field(name) => fields.push((field(name), "AWS4-HMAC-SHA256 x".to_owned())),
                Put::Query(name) => query += &format!("{between}{}=foreign", parameter(name)),
                Put::Form(name) => body += &format!("{between}{}=foreign", parameter(name)),
                Put::Parts => fields.push(("content-type".to_owned(), field("multipart/form-data").replace(['_', '.'], "-"))),
            }
        }
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let sent = pairs.iter().map(|(name, value)| (*name, value.as_bytes()));
        let read_as = form(method, sent).expect("it may be a form");
        let judged = told(Some(&query), &pairs).and_then(|told| check_form(body.as_bytes(), read_as).map(|()| told));
        prop_assert!(judged.is_err(), "{} {:?} {} {}", method, fields, query, body);
    }
}
