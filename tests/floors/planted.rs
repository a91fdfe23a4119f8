//! Small trees with a planted fault, and sound trees that look as if they had one.

use std::fs;

use crate::examine;

/// What is wrong with a tree of these rooms, from the top, and these files.
fn wrong_in(rooms: &[&str], files: &[(&str, &str)]) -> Vec<String> {
    let row = |room: &&str| format!("//! | [`{room}`] | a room |\n");
    let declared = |room: &&str| format!("pub mod {room};\n");
    let lib: String = rooms.iter().map(row).chain(rooms.iter().map(declared)).collect();
    wrong_with(&lib, files)
}

fn wrong_with(lib: &str, files: &[(&str, &str)]) -> Vec<String> {
    wrong_as(lib, "fn main() { egressd::commands::main() }", files)
}

fn wrong_as(lib: &str, main: &str, files: &[(&str, &str)]) -> Vec<String> {
    let src = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = src.path().join(name);
        fs::create_dir_all(path.parent().expect("below it")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("lib.rs", lib);
    write("main.rs", main);
    files.iter().for_each(|(name, text)| write(name, text));
    examine(src.path()).0
}

/// One room `room/`: `mod.rs` as given after its doc comment, and the other files.
#[track_caller]
fn in_room(mod_rs: &str, files: &[(&str, &str)]) -> Vec<String> {
    let mod_rs = format!("//! A room.\n{mod_rs}");
    let files: Vec<(String, &str)> =
        files.iter().map(|(name, text)| (format!("room/{name}"), *text)).collect();
    let mut all: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    all.push(("room/mod.rs", &mod_rs));
    wrong_in(&["room"], &all)
}

#[track_caller]
fn one(wrong: &[String], wanted: &[&str]) {
    let [only] = wrong else { panic!("{} findings:\n{}", wrong.len(), wrong.join("\n")) };
    for part in wanted {
        assert!(only.contains(part), "no {part:?} in\n{only}");
    }
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two rooms, where the text is the code of `low`, the lower one. Line 3 is its first line.
fn upward(low: &str) -> Vec<String> {
    wrong_in(
        &["high", "low"],
        &[
            ("high/mod.rs", "//! High.\npub mod inner;\npub use inner::Thing;\npub fn make() {}\n"),
            (
                "high/inner.rs",
                "pub struct Thing;\nimpl Thing { pub const N: u8 = 1; }\npub mod deep { pub trait T {} }\n",
            ),
            ("low/mod.rs", &format!("//! Low.\n\n{low}\n")),
        ],
    )
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    let thing = ["src/low/mod.rs:3: upward: ", "of src/high/inner.rs", "`low` stands below `high`"];
    for text in [
        "use crate::high::Thing;",
        "pub use crate::high::inner::Thing;",
        "use super::high::Thing as Other;",
        "use crate::{high::{inner::Thing}};",
        "use crate::high::inner::deep::T as _;",
        "fn f() { use crate::high::Thing; }",
        "fn f(_: crate::high::Thing) {}",
        "fn f(_: Vec<Option<&crate::high::Thing>>) {}",
        "impl crate::high::inner::deep::T for u8 {}",
        "const N: u8 = crate::high::Thing::N;",
        "fn f() { println!(\"{}\", crate::high::Thing::N); }",
        "fn f() { vec![1, { super::high::Thing::N }]; }",
        "macro_rules! m { () => { $crate::high::Thing } }",
        "#[derive(Deserialize)] struct S { #[serde(with = \"crate::high::inner::deep\", default = \"crate::high::Thing::new\")] s: u8 }",
        "fn f(x: u8) { match x { crate::high::Thing::N => (), _ => () } }",
        "mod own { mod deeper { use super::super::super::high::Thing; } }",
        // The program compiles these.
        "#[cfg(not(test))] use crate::high::Thing;",
        "#[cfg(any(test, feature = \"x\"))] use crate::high::Thing;",
        "#[cfg(any(test, feature = \"x\"))] mod samples { use crate::high::Thing; }",
        "#[cfg(all(unix, any(test, feature = \"x\")))] fn f() { crate::high::Thing::N; }",
        "#[cfg_attr(any(test, feature = \"x\"), derive(crate::high::Thing))] struct S;",
        // Strings in attributes that are code.
        "#[derive(Serialize)] #[serde(bound = \"T: crate::high::Thing\")] struct S<T>(T);",
        "#[derive(Serialize)] #[serde(bound(serialize = \"T: Clone + crate::high::Thing\"))] struct S<T>(T);",
        "#[cfg_attr(unix, serde(bound(deserialize = \"T: crate::high::Thing\")))] struct S<T>(T);",
        "struct S { #[serde(default = \"crate::high::Thing::new\")] s: u8 }",
        "struct S { #[serde(serialize_with = \"crate::high::Thing::write\")] s: u8 }",
        "struct S { #[serde(deserialize_with = r\"crate::high::Thing::read\")] s: u8 }",
        "struct S { #[serde(skip_serializing_if = \"crate::high::Thing::none\")] s: u8 }",
        "#[serde(try_from = \"crate::high::Thing\")] struct S;",
        "#[doc = crate::high::Thing!()] struct S;",
    ] {
        let wrong = upward(text);
        assert!(!wrong.is_empty(), "not found: {text}");
        one(&wrong, &thing);
    }
    one(&upward("fn f() { crate::high::make(); }"), &["`crate::high::make` of src/high/mod.rs"]);
    one(&upward("use crate::high;\nfn f() { high::make(); }"), &["src/low/mod.rs:4", "`high::make`"]);
    one(
        &upward("use crate::high as up;\nfn f() -> up::Thing { loop {} }"),
        &["src/low/mod.rs:4", "`up::Thing`"],
    );
}

#[test]
fn what_only_looks_like_an_upward_import_is_not_reported() {
    for text in [
        "#[cfg(test)] mod tests { use crate::high::Thing; }",
        "#[cfg(all(test, feature = \"x\"))] mod samples { use crate::high::Thing; }",
        "#[cfg(all(unix, all(test, any(a, b))))] use crate::high::Thing;",
        "#[cfg(test)] use crate::high::Thing;",
        "#[cfg(test)] impl crate::high::inner::deep::T for u8 {}",
        "struct S; impl S { #[cfg(test)] fn f() { crate::high::make(); } }",
        "fn f() { #[cfg(test)] { crate::high::make(); } #[cfg(test)] let x = crate::high::make(); }",
        "#[test] fn f() { crate::high::make(); }",
        "#[cfg_attr(test, derive(crate::high::Thing))] struct S;",
        "#[serde(bound = \"\", bound(serialize = \"T: Clone\"), rename(serialize = \"crate::high::Thing\"))] struct S;",
        "const TEXT: &str = include_str!(\"a.txt\");",
        "/// [`crate::high::Thing`] is used there: `use crate::high::Thing;`\nfn f() {}",
        "// use crate::high::Thing;\nfn f() {}",
        "fn f() -> &'static str { \"use crate::high::Thing; crate::high::make()\" }",
        "fn f() { println!(\"crate::high::make()\"); }",
        "#[serde(rename = \"high\")] struct S;",
        "pub(in crate::low) fn f() {}",
        "fn high() {} fn f() { high(); }",
        "mod high { pub fn make() {} } fn f() { high::make(); self::high::make(); }",
        "fn f(x: X) { x.high.make(); x.high(); y!(x.high()); }",
        "use other::high::Thing; fn f() { ::high::make(); other::high::make(); }",
    ] {
        none(&upward(text));
    }
    none(&wrong_in(
        &["high", "low"],
        &[
            ("high/mod.rs", "//! High.\n#[cfg(test)]\nmod tests;\nuse crate::low::LOW;\n"),
            ("high/tests/mod.rs", "//! Tests.\nmod more;\nuse super::*;\n"),
            ("high/tests/more.rs", "use super::*;\n"),
            (
                "low/mod.rs",
                "//! Low.\npub const LOW: u8 = 1;\n#[cfg(test)]\nmod tests { use crate::high::X; }\n",
            ),
        ],
    ));
}

#[test]
fn a_circle_of_folders_is_found_where_no_file_is_in_one() {
    let circle = [
        ("tunnel/mod.rs", "//! T.\nmod a;\npub mod b;\n"),
        ("tunnel/a.rs", "use crate::room::http::X;\n"),
        ("tunnel/b.rs", "pub struct Y;\n"),
        ("http/mod.rs", "//! H.\nmod c;\npub struct X;\n"),
        ("http/c.rs", "use crate::room::tunnel::b::Y;\n"),
    ];
    one(
        &in_room("mod http;\nmod tunnel;\n", &circle),
        &[
            "circle of 2 folders",
            "src/room/http/ -> src/room/tunnel/\n      src/room/http/c.rs:1: crate::room::tunnel::b::Y",
            "src/room/tunnel/ -> src/room/http/\n      src/room/tunnel/a.rs:1: crate::room::http::X",
        ],
    );
    none(&in_room("mod http;\nmod tunnel;\n", &[&circle[..4], &[("http/c.rs", "")]].concat()));
}

#[test]
fn a_circle_of_a_file_and_a_folder_next_to_it_is_found() {
    let circle = [
        ("decide.rs", "use super::http::a::A;\npub struct D;\n"),
        ("http/mod.rs", "//! H.\npub mod a;\nmod b;\n"),
        ("http/a.rs", "pub struct A;\n"),
        ("http/b.rs", "use crate::room::decide::D;\n"),
    ];
    one(
        &in_room("mod decide;\nmod http;\n", &circle),
        &[
            "circle of 2 files and folders",
            "src/room/decide.rs -> src/room/http/\n      src/room/decide.rs:1: super::http::a::A",
            "src/room/http/ -> src/room/decide.rs\n      src/room/http/b.rs:1: crate::room::decide::D",
        ],
    );
    none(&in_room("mod decide;\nmod http;\n", &[&circle[..3], &[("http/b.rs", "")]].concat()));

    // By way of another file, and one folder deeper.
    let deeper = [
        ("deep/mod.rs", "//! D.\nmod decide;\nmod http;\nmod more;\n"),
        ("deep/decide.rs", "use super::more::M;\npub struct D;\n"),
        ("deep/more.rs", "pub struct M(super::http::a::A);\n"),
        ("deep/http/mod.rs", "//! H.\npub mod a;\nmod b;\n"),
        ("deep/http/a.rs", "pub struct A;\n"),
        ("deep/http/b.rs", "use crate::room::deep::decide::D;\n"),
    ];
    one(
        &in_room("mod deep;\n", &deeper),
        &["circle of 3 files and folders", "src/room/deep/decide.rs -> src/room/deep/more.rs"],
    );

    // The parent's mod.rs is the root of what is below it.
    none(&in_room(
        "mod http;\npub struct R;\nfn f(_: http::a::A) {}\n",
        &[circle[1], circle[2], ("http/b.rs", "use crate::room::R;\n")],
    ));
}

#[test]
fn a_circle_of_files_is_found_by_super_and_by_crate() {
    let three = [
        ("a.rs", "use super::b::B;\npub struct A;\n"),
        ("b.rs", "pub struct B(pub crate::room::c::C);\n"),
        ("c.rs", "pub struct C;\nimpl C { fn f() { vec![super::a::A]; } }\n"),
        ("d.rs", "use super::a::A;\n"),
    ];
    let wrong = in_room("mod a;\nmod b;\nmod c;\nmod d;\n", &three);
    one(
        &wrong,
        &[
            "circle of 3 files",
            "src/room/a.rs -> src/room/b.rs\n      src/room/a.rs:1: super::b::B",
            "src/room/b.rs -> src/room/c.rs\n      src/room/b.rs:1: crate::room::c::C",
            "src/room/c.rs -> src/room/a.rs\n      src/room/c.rs:2: super::a::A",
        ],
    );
    assert!(!wrong[0].contains("d.rs"), "{}", wrong[0]);
}

#[test]
fn a_circle_by_way_of_a_parent_s_re_export_is_not_hidden() {
    for (re_export, by) in [
        ("pub use b::B;", "use super::B;"),
        ("pub(crate) use self::b::B as Renamed;", "use super::Renamed;"),
        ("pub use b::*;", "use super::B;"),
        ("pub use b::*;", "use super::*;\nfn f(_: B) {}"),
        ("pub use b::B;", "use super::*;\nfn f() { vec![B::new()]; }"),
    ] {
        let wrong = in_room(
            &format!("mod a;\nmod b;\n{re_export}\n"),
            &[("a.rs", &format!("{by}\npub struct A;\n")), ("b.rs", "use super::a::A;\npub struct B;\n")],
        );
        one(
            &wrong,
            &["circle of 2 files", "src/room/a.rs -> src/room/b.rs", "src/room/b.rs -> src/room/a.rs"],
        );
        assert!(!wrong[0].contains("src/room/mod.rs"), "{}", wrong[0]);
    }
}

#[test]
fn a_parent_and_its_child_are_a_circle_only_if_both_use_each_other() {
    let child = [("child.rs", "use super::LIMIT;\npub struct Child;\npub fn make() -> u8 { LIMIT }\n")];
    let sound = [
        "mod child;\npub const LIMIT: u8 = 1;\n",
        "mod child;\npub use child::Child;\npub const LIMIT: u8 = 1;\n",
        "mod child;\npub use self::child::*;\npub const LIMIT: u8 = 1;\n",
        "mod child;\npub use child::make;\npub const LIMIT: u8 = 1;\nfn f(make: u8) -> u8 { vec![make]; make }\n",
    ];
    for mod_rs in sound {
        none(&in_room(mod_rs, &child));
    }
    for uses in [
        "mod child;\nuse child::Child;\n",
        "mod child;\nuse self::child::make as f;\n",
        "mod child;\nfn f() { child::make(); }\n",
        "mod child;\nfn f() -> self::child::Child { loop {} }\n",
        "mod child;\npub use child::Child;\nstruct Two(Child, Child);\n",
        "mod child;\npub use child::make;\nfn f() { let make = make(); }\n",
        "mod child;\npub use child::*;\nfn f() { vec![Child]; }\n",
    ] {
        let wrong = in_room(&format!("{uses}pub const LIMIT: u8 = 1;\n"), &child);
        assert!(!wrong.is_empty(), "not found: {uses}");
        one(&wrong, &["src/room/child.rs -> src/room/mod.rs", "src/room/mod.rs -> src/room/child.rs"]);
    }
    // The parent does not define what it re-exports from another crate.
    none(&in_room(
        "mod child;\nuse child::Child;\nmod sync { pub use std::sync::Arc; }\npub use std::fmt;\n",
        &[("child.rs", "use super::sync::Arc;\nuse super::fmt;\npub struct Child;\n")],
    ));
}

#[test]
fn names_are_resolved_as_the_compiler_does() {
    // A function and a module have the same name: `make::N` is in the module, and the import alone is not an arrow.
    none(&in_room(
        "mod make;\nmod user;\npub use make::make;\npub struct S;\n",
        &[
            ("make.rs", "use super::S;\npub fn make() {}\npub const N: u8 = 1;\n"),
            ("user.rs", "use super::make;\nfn f() { make::N; }\n"),
        ],
    ));
    // A name that nothing declares comes from a macro call in the module that the path names.
    one(
        &in_room(
            "mod a;\nmod b;\n",
            &[
                ("a.rs", "use super::b::Made;\npub struct A;\n"),
                ("b.rs", "words! { Made { A } }\nuse super::a::A;\n"),
            ],
        ),
        &["src/room/a.rs:1: super::b::Made"],
    );
    // A block's import hides the module's.
    none(&in_room(
        "mod a;\nmod b;\nmod c;\n",
        &[
            ("a.rs", "use super::b;\nfn f() { use super::c as b; b::C; }\npub struct A;\n"),
            ("b.rs", "pub struct C;\nuse super::a::A;\n"),
            ("c.rs", "pub struct C;\n"),
        ],
    ));
    // Two modules with a glob import of each other: the lookup ends.
    one(
        &in_room(
            "mod a;\nmod b;\n",
            &[
                ("a.rs", "pub use super::b::*;\npub struct A;\n"),
                ("b.rs", "pub use super::a::*;\npub struct B;\nfn f(_: X) {}\n"),
            ],
        ),
        &["circle of 2 files"],
    );
    // `r#type` is `type`.
    one(
        &in_room(
            "mod r#type;\n",
            &[
                ("type/mod.rs", "//! T.\nmod inner;\nuse inner::I;\npub struct T;\n"),
                ("type/inner.rs", "use crate::room::r#type::T;\npub struct I;\n"),
            ],
        ),
        &["src/room/type/mod.rs -> src/room/type/inner.rs"],
    );
}

#[test]
fn the_table_the_modules_and_the_folders_agree() {
    let room = ("a/mod.rs", "//! A.\n");
    none(&wrong_in(&["a"], &[room]));
    let table = "//! | [`a`] | x |\npub mod a;\n";
    for (lib, files, wanted) in [
        (
            "//! | [`a`] | x |\n//! | [`b`] | x |\npub mod a;\n",
            vec![room],
            "names `b`, which is not declared",
        ),
        (
            "//! | [`a`] | x |\n//! | [`b`] | x |\npub mod a;\n",
            vec![room],
            "names `b`, which is not a folder",
        ),
        ("//! | [`a`] | x |\n//! | [`a`] | x |\npub mod a;\n", vec![room], "names a room twice"),
        ("pub mod a;\n", vec![room], "`a` is declared in src/lib.rs by `mod`, and has no row"),
        (table, vec![room, ("b/mod.rs", "//! B.\n")], "`b` is a folder of src/, and has no row"),
        (table, vec![room, ("b/mod.rs", "//! B.\n")], "src/b/mod.rs: no `mod` declaration leads"),
        (table, vec![room, ("stray.rs", "")], "src/stray.rs: lies next to the rooms"),
        (table, vec![("a.rs", "//! A.\n"), ("a/b.rs", "")], "src/a/: has no mod.rs"),
        (table, vec![room, ("a/forgotten.rs", "")], "src/a/forgotten.rs: no `mod` declaration leads"),
        (table, vec![("a/mod.rs", "use x::Y;\n")], "src/a/mod.rs:1: no doc comment"),
        (
            table,
            vec![("a/mod.rs", "//! A.\nmod b;\n"), ("a/b/mod.rs", "// B.\n")],
            "src/a/b/mod.rs:1: no doc comment",
        ),
    ] {
        let wrong = wrong_with(lib, &files);
        assert!(wrong.iter().any(|line| line.contains(wanted)), "no {wanted:?} in\n{}", wrong.join("\n"));
    }
    let long = format!("//! A.\n{}", "// x\n".repeat(500));
    one(&wrong_in(&["a"], &[("a/mod.rs", &long)]), &["src/a/mod.rs: 501 lines"]);
    let tests = "// x\n".repeat(501);
    let declares = ("a/mod.rs", "//! A.\n#[cfg(test)]\nmod tests;\n");
    one(&wrong_in(&["a"], &[declares, ("a/tests.rs", &tests)]), &["src/a/tests.rs: 501 lines"]);
}

#[test]
fn a_module_with_children_is_a_folder_with_a_mod_rs() {
    let child = ("type/inner.rs", "pub struct I;\n");
    for (mod_rs, files) in [
        ("mod r#type;\n", vec![("type.rs", "mod inner;\nuse inner::I;\n"), child]),
        ("#[cfg(test)]\nmod r#type;\n", vec![("type.rs", "mod inner;\n"), child]),
    ] {
        let wrong = in_room(mod_rs, &files);
        assert_eq!(wrong.len(), 2, "{}", wrong.join("\n"));
        assert!(wrong[0].contains("src/room/type/: has no mod.rs"), "{}", wrong[0]);
        assert!(wrong[1].contains("src/room/type.rs: lies next to src/room/type/"), "{}", wrong[1]);
    }
    // An inline module's folder, and a folder that only contains folders.
    one(
        &in_room("mod inline { mod inner; }\n", &[("inline/inner.rs", "")]),
        &["src/room/inline/: has no mod.rs"],
    );
    one(&in_room("mod a { mod b; }\n", &[("a/b/mod.rs", "//! B.\n")]), &["src/room/a/: has no mod.rs"]);
    // A folder without sources needs no mod.rs, but it too must not have the name of a source next to it.
    one(
        &in_room("mod page;\n", &[("page.rs", ""), ("page/page.css", "")]),
        &["src/room/page.rs: lies next to"],
    );
    none(&in_room("", &[("page/page.css", "")]));
}

#[test]
fn lib_rs_only_declares_modules_and_main_rs_only_calls_the_library() {
    let files = [
        ("commands/mod.rs", "//! C.\npub struct C;\n"),
        ("words/mod.rs", "//! W.\nfn f() { crate::relay(); }\n"),
    ];
    let lib = "//! | [`commands`] | x |\n//! | [`words`] | x |\n#[doc(hidden)]\npub mod commands;\n/// W.\npub mod words;\n";
    none(&wrong_with(lib, &files));
    for item in [
        "pub fn relay() { let _ = commands::C; }",
        "pub use commands::C as relay;",
        "macro_rules! relay { () => { $crate::commands::C } }",
        "type Relay = commands::C;",
        "extern crate self as relay;",
    ] {
        let wrong = wrong_with(&format!("{lib}{item}\n"), &files);
        let wanted = "src/lib.rs:7: not a `mod` declaration";
        assert!(
            wrong.iter().any(|line| line.contains(wanted)),
            "no {wanted:?} for {item}\n{}",
            wrong.join("\n")
        );
    }
    let inline = lib.replace("pub mod words;", "pub mod words {}");
    let wrong = wrong_with(&inline, &files[..1]);
    assert!(wrong.iter().any(|line| line.contains("src/lib.rs:5: not a `mod`")), "{}", wrong.join("\n"));

    for main in [
        "use std::process::ExitCode;\nfn main() -> ExitCode { egressd::commands::main() }",
        "//! Doc.\nfn main() { egressd::commands::main(); }",
    ] {
        none(&wrong_as(lib, main, &files));
    }
    for main in [
        "fn main() {}",
        "fn main() { run() }",
        "fn main() { egressd::commands::main(); egressd::words::main(); }",
        "fn main() { egressd::commands::main({ egressd::words::W }) }",
        "mod more; fn main() { egressd::commands::main() }",
        "fn helper() {} fn main() { egressd::commands::main() }",
        "static S: u8 = 1; fn main() { egressd::commands::main() }",
    ] {
        one(&wrong_as(lib, main, &files), &["src/main.rs:1: more than one call of the library"]);
    }
}

#[test]
fn what_hides_a_use_is_refused() {
    for text in [
        "include!(\"hidden.in\");",
        "fn f() { std::include!(\"hidden.in\") }",
        "fn f() { vec![include!(\"hidden.in\")]; }",
        "macro_rules! m { () => { include!(\"hidden.in\") } }",
        "use std::include as other;",
    ] {
        one(&upward(text), &["src/low/mod.rs:3: `include!` hides"]);
    }
    one(&upward("extern crate self as me;"), &["src/low/mod.rs:3: a second name of the crate"]);
    for text in [
        "#[macro_export] macro_rules! m { () => {} }",
        "#[macro_use] mod inner { macro_rules! m { () => {} } }",
    ] {
        one(&upward(text), &["src/low/mod.rs:3: a macro without a module's path"]);
    }
    none(&upward("#[cfg(test)] fn f() { include!(\"samples.in\") }"));
}
