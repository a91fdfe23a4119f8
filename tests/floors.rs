//! The table of floors in src/lib.rs: it names every module once, and imports go downward or stay on their floor. Left out:
//! tests beside the code, which may reach for anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floor of each module, from the top.
fn floors(lib: &str) -> BTreeMap<String, usize> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    let mut floors = BTreeMap::new();
    for (floor, row) in rows.enumerate() {
        let (_, modules) = row.split_once(" | ").expect("two columns");
        for module in modules.trim_end_matches(" |").split(", ") {
            let twice = floors.insert(module.trim_matches('`').to_owned(), floor);
            assert_eq!(twice, None, "{module} stands twice");
        }
    }
    floors
}

/// The modules named behind `crate::`: one, or those of a `{list}` on the same line.
fn named(path: &str) -> impl Iterator<Item = &str> {
    let list = path.strip_prefix('{').map(|rest| rest.split_once('}').expect("a list on one line").0);
    list.unwrap_or(path).split(", ").take(if list.is_some() { usize::MAX } else { 1 }).map(|name| {
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        &name[..end]
    })
}

fn sources(directory: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            all.push(path);
        }
    }
}

#[test]
fn imports_go_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).expect("src/lib.rs");
    let floors = floors(&lib);
    let mut modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    modules.sort_unstable();
    assert_eq!(floors.keys().collect::<Vec<_>>(), modules, "the table and the modules");

    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut imports, mut upward) = (0, Vec::new());
    for file in files {
        let inside = file.strip_prefix(&root).expect("below it").with_extension("");
        let room = inside.iter().next().and_then(|name| name.to_str()).expect("a name in ASCII");
        let Some(own) = floors.get(room) else { continue };
        let text = fs::read_to_string(&file).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for path in line.split("crate::").skip(1) {
                for module in named(path) {
                    let Some(floor) = floors.get(module) else { continue };
                    imports += 1;
                    if floor < own {
                        upward.push(format!("{}: {}", inside.display(), line.trim()));
                    }
                }
            }
        }
    }
    assert!(imports > 300, "{imports} imports found");
    assert!(upward.is_empty(), "imports that go upward:\n{}", upward.join("\n"));
}
