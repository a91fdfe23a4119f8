//! The table of rooms, the folders of `src`, and what every file must be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned as _;
use syn::{Block, Expr, Item, Stmt};

const LONGEST: usize = 500;

/// The rooms from the top, as the rows ``//! | [`room`] | … |`` of lib.rs name them.
pub(crate) fn rooms(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("//! | [`")?.split_once("`] |"))
        .map(|(room, _)| room.to_owned())
        .collect()
}

/// Compares the table with the `pub mod` declarations and with the folders.
pub(crate) fn rooms_match(src: &Path, lib: &str, rooms: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let table: BTreeSet<&str> = rooms.iter().map(String::as_str).collect();
    if table.len() < rooms.len() {
        wrong.push("src/lib.rs: the table names a room twice: each has one row".to_owned());
    }
    let parsed = syn::parse_file(lib).expect("src/lib.rs parses");
    let declared: BTreeSet<String> = parsed
        .items
        .iter()
        .filter_map(|item| if let Item::Mod(module) = item { Some(module.ident.to_string()) } else { None })
        .collect();
    let mut folders = BTreeSet::new();
    for path in entries(src) {
        let name = file_name(&path);
        if path.is_dir() {
            folders.insert(name);
        } else if name.ends_with(".rs") && name != "lib.rs" && name != "main.rs" {
            wrong.push(format!("src/{name}: lies next to the rooms: move it into one of them"));
        }
    }
    for (what, found) in [("declared in src/lib.rs by `mod`", &declared), ("a folder of src/", &folders)] {
        for room in table.iter().filter(|room| !found.contains(**room)) {
            wrong.push(format!("src/lib.rs: the table names `{room}`, which is not {what}"));
        }
        for room in found.iter().filter(|room| !table.contains(room.as_str())) {
            wrong.push(format!("src/lib.rs: `{room}` is {what}, and has no row in the table"));
        }
    }
    wrong
}

/// `lib.rs` only declares modules. It is in no room, so an upward use through an item of `lib.rs` would not be seen.
pub(crate) fn lib_declares_only(lib: &str) -> Vec<String> {
    let parsed = syn::parse_file(lib).expect("src/lib.rs parses");
    let other =
        parsed.items.iter().filter(|item| !matches!(item, Item::Mod(module) if module.content.is_none()));
    other
        .map(|item| {
            let line = item.span().start().line;
            format!("src/lib.rs:{line}: not a `mod` declaration: it belongs to a room, move it into one")
        })
        .collect()
}

/// `main.rs` is not in a room either: it has imports, and a `main` that is one call of the library.
pub(crate) fn main_only_calls(src: &Path) -> Vec<String> {
    let text = fs::read_to_string(src.join("main.rs")).expect("src/main.rs");
    let parsed = syn::parse_file(&text).expect("src/main.rs parses");
    let other = parsed.items.iter().filter(|item| match item {
        Item::Use(_) => false,
        Item::Fn(function) => function.sig.ident != "main" || !calls_the_library(&function.block),
        _ => true,
    });
    other
        .map(|item| {
            let line = item.span().start().line;
            format!(
                "src/main.rs:{line}: more than one call of the library: `main` is `{}::…()`, and the rest belongs to a room",
                env!("CARGO_PKG_NAME"),
            )
        })
        .collect()
}

/// Whether the block is `egressd::…()` and nothing else.
fn calls_the_library(block: &Block) -> bool {
    matches!(
        &block.stmts[..],
        [Stmt::Expr(Expr::Call(call), _)]
            if call.args.is_empty()
                && matches!(&*call.func, Expr::Path(path)
                    if path.path.segments.first().is_some_and(|first| first.ident == env!("CARGO_PKG_NAME")))
    )
}

/// A module with children is a folder with a `mod.rs`, never a file next to a folder, so that all its files are in one place.
/// Folders of tests too.
pub(crate) fn folders(src: &Path) -> Vec<String> {
    folders_below(src, src)
}

fn folders_below(src: &Path, parent: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in entries(parent).into_iter().filter(|path| path.is_dir()) {
        let name = shown(src, &folder);
        if !sources(&folder).is_empty() && !folder.join("mod.rs").is_file() {
            wrong.push(format!(
                "{name}/: has no mod.rs: a folder with sources is a module, and its file is mod.rs"
            ));
        }
        if folder.with_extension("rs").is_file() {
            wrong.push(format!("{name}.rs: lies next to {name}/: make it {name}/mod.rs"));
        }
        wrong.extend(folders_below(src, &folder));
    }
    wrong
}

/// No file is too long, and every folder's `mod.rs` begins with what the folder is. Files of tests too.
pub(crate) fn files(src: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in sources(src) {
        let text = fs::read_to_string(&path).expect("a source");
        let (name, lines) = (shown(src, &path), text.lines().count());
        if lines > LONGEST {
            wrong.push(format!("{name}: {lines} lines: split it; a file has at most {LONGEST}"));
        }
        if file_name(&path) == "mod.rs" && !text.starts_with("//! ") {
            wrong.push(format!("{name}:1: no doc comment: begin with `//! ` and what the folder is"));
        }
    }
    wrong
}

/// Every `.rs` file below `directory`, in the order of their names.
pub(crate) fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in entries(directory) {
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all
}

/// `src/room/file.rs`.
pub(crate) fn shown(src: &Path, path: &Path) -> String {
    format!("src/{}", path.strip_prefix(src).expect("below src").display())
}

fn entries(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).expect("a folder");
    entries.map(|entry| entry.expect("readable").path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned()
}
