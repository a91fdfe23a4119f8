//! The table of rooms, the folders of `src`, and what every file must be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LONGEST: usize = 500;

/// The rooms from the top, as the rows ``//! | [`room`] | … |`` of lib.rs name them.
pub(crate) fn rooms(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("//! | [`")?.split_once("`] |"))
        .map(|(room, _)| room.to_owned())
        .collect()
}

/// Holds the table against the `pub mod` declarations and against the folders.
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
        .filter_map(
            |item| if let syn::Item::Mod(module) = item { Some(module.ident.to_string()) } else { None },
        )
        .collect();
    let mut folders = BTreeSet::new();
    for path in entries(src) {
        let name = file_name(&path);
        if path.is_dir() {
            if !path.join("mod.rs").is_file() {
                wrong.push(format!("src/{name}/: has no mod.rs: a room is one folder with a mod.rs"));
            }
            folders.insert(name);
        } else if name.ends_with(".rs") && name != "lib.rs" && name != "main.rs" {
            wrong.push(format!("src/{name}: lies beside the rooms: it belongs into one of them"));
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

/// No file is too long, and every folder's `mod.rs` says first what the folder is. Files of tests too.
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
