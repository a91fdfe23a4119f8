//! Small trees with a planted fault, and sound ones that look as if they had one.

use std::fs;

use crate::examine;

/// What is wrong with a house of these rooms, from the top, and these files.
fn wrong_in(rooms: &[&str], files: &[(&str, &str)]) -> Vec<String> {
    let row = |room: &&str| format!("//! | [`{room}`] | a room |\n");
    let declared = |room: &&str| format!("pub mod {room};\n");
    let lib: String = rooms.iter().map(row).chain(rooms.iter().map(declared)).collect();
    wrong_with(&lib, files)
}

fn wrong_with(lib: &str, files: &[(&str, &str)]) -> Vec<String> {
    let src = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = src.path().join(name);
        fs::create_dir_all(path.parent().expect("below it")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("lib.rs", lib);
    write("main.rs", "fn main() {}");
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

/// A house of two rooms, in which `low` reaches for `high` as the text says.
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
    ] {
        let wrong = upward(text);
        assert!(!wrong.is_empty(), "not found: {text}");
        one(&wrong, &thing);
    }
    one(&upward("fn f() { crate::high::make(); }"), &["`crate::high::make` of src/high/mod.rs"]);
    one(&upward("use crate::high;\nfn f() { high::make(); }"), &["src/low/mod.rs:4", "`high::make`"]);
    one(
        &upward("use crate::high as up;\nfn f() -> up::Thing { todo!() }"),
        &["src/low/mod.rs:4", "`up::Thing`"],
    );
}

#[test]
fn what_only_looks_like_an_upward_import_is_let_be() {
    for text in [
        "#[cfg(test)] mod tests { use crate::high::Thing; }",
        "#[cfg(any(test, feature = \"x\"))] mod samples { use crate::high::Thing; }",
        "#[cfg(test)] use crate::high::Thing;",
        "#[cfg(test)] impl crate::high::inner::deep::T for u8 {}",
        "struct S; impl S { #[cfg(test)] fn f() { crate::high::make(); } }",
        "fn f() { #[cfg(test)] { crate::high::make(); } #[cfg(test)] let x = crate::high::make(); }",
        "#[test] fn f() { crate::high::make(); }",
        "#[cfg_attr(test, derive(crate::high::Thing))] struct S;",
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
    // Sound under not(test): the program compiles it.
    one(&upward("#[cfg(not(test))] use crate::high::Thing;"), &["upward"]);
    none(&wrong_in(
        &["high", "low"],
        &[
            ("high/mod.rs", "//! High.\n#[cfg(test)]\nmod tests;\nuse crate::low::LOW;\n"),
            ("high/tests.rs", "mod more;\nuse super::*;\n"),
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
        "mod child;\nfn f() -> self::child::Child { todo!() }\n",
        "mod child;\npub use child::Child;\nstruct Two(Child, Child);\n",
        "mod child;\npub use child::make;\nfn f() { let make = make(); }\n",
        "mod child;\npub use child::*;\nfn f() { vec![Child]; }\n",
    ] {
        let wrong = in_room(&format!("{uses}pub const LIMIT: u8 = 1;\n"), &child);
        assert!(!wrong.is_empty(), "not found: {uses}");
        one(&wrong, &["src/room/child.rs -> src/room/mod.rs", "src/room/mod.rs -> src/room/child.rs"]);
    }
    // What the parent hands out of another crate is not the parent's.
    none(&in_room(
        "mod child;\nuse child::Child;\nmod sync { pub use std::sync::Arc; }\npub use std::fmt;\n",
        &[("child.rs", "use super::sync::Arc;\nuse super::fmt;\npub struct Child;\n")],
    ));
}

#[test]
fn names_are_resolved_as_the_compiler_does() {
    // A function and a module of one name: `make::N` is the module's, and the import alone says nothing.
    none(&in_room(
        "mod make;\nmod user;\npub use make::make;\npub struct S;\n",
        &[
            ("make.rs", "use super::S;\npub fn make() {}\npub const N: u8 = 1;\n"),
            ("user.rs", "use super::make;\nfn f() { make::N; }\n"),
        ],
    ));
    // What a macro makes belongs to the module in which nothing else declares it.
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
    // Globs of each other end.
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
    // `r#type` is `type`, and a module's folder lies beside its file.
    one(
        &in_room(
            "mod r#type;\n",
            &[
                ("type.rs", "mod inner;\nuse inner::I;\npub struct T;\n"),
                ("type/inner.rs", "use crate::room::r#type::T;\npub struct I;\n"),
            ],
        ),
        &["src/room/type.rs -> src/room/type/inner.rs"],
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
        (table, vec![room, ("stray.rs", "")], "src/stray.rs: lies beside the rooms"),
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
