//! The house stands as the table in `src/lib.rs` says: one folder a room, imports downward only, no circle of folders, no
//! circle of files.
//!
//! - [`layout`]: the table, the folders, and what every file must be.
//! - [`read`]: the modules of the crate, by their `mod` declarations.
//! - [`names`]: what a name in a module stands for, and which file defines it.
//! - [`arrows`]: which file uses what of which other file.
//! - [`graph`]: what the arrows must not do.
//! - [`planted`]: the same over small trees with a planted fault, so that this guard is not one that cannot fail.
//!
//! An arrow leads from the file that names something to the file that **defines** it: by `use`, by a path in an
//! expression, a type, a pattern or a macro's arguments, or by an attribute that names a path. A parent's `mod`
//! declarations and its re-exports of what is below it are no arrows. Left out: what only tests compile, comments,
//! and strings.
//!
//! Not seen: a method called on a value whose type another file defines, where the type is never named.

use std::fs;
use std::path::Path;

mod arrows;
mod graph;
mod layout;
mod names;
mod planted;
mod read;

/// Everything that is wrong with the tree in `src`, a finding a paragraph; and how much was read to say so.
fn examine(src: &Path) -> (Vec<String>, usize, usize) {
    let lib = fs::read_to_string(src.join("lib.rs")).expect("src/lib.rs");
    let rooms = layout::rooms(&lib);
    let mut wrong = layout::rooms_match(src, &lib, &rooms);
    let tree = read::Tree::read(src);
    wrong.extend(tree.unread());
    wrong.extend(layout::files(src));
    let arrows = arrows::all(&tree);
    wrong.extend(graph::upward(&tree, &arrows, &rooms));
    wrong.extend(graph::folder_circles(&tree, &arrows));
    wrong.extend(graph::file_circles(&tree, &arrows));
    (wrong, tree.files.len(), arrows.len())
}

#[test]
fn the_house_stands_as_the_table_says() {
    let (wrong, files, arrows) = examine(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files > 150, "only {files} files were read");
    assert!(arrows > 1000, "only {arrows} arrows were found");
    assert!(wrong.is_empty(), "findings: {}\n\n{}\n", wrong.len(), wrong.join("\n\n"));
}
