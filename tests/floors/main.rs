//! Checks that the files in `src` are arranged as the table in `src/lib.rs` says: each room is one folder, imports go only
//! downward, and there is no circle of files or folders.
//!
//! - [`layout`]: the table, the folders, and what every file must be.
//! - [`read`]: the modules of the crate, by their `mod` declarations.
//! - [`names`]: what a name in a module means, and which file defines it.
//! - [`arrows`]: which file uses what of which other file.
//! - [`graph`]: what the arrows must not do.
//! - [`planted`]: the same checks on small trees with a planted fault. They show that each check can fail.
//!
//! An arrow goes from the file that uses a name to the file that **defines** it. A use is a `use` declaration, a path in an
//! expression, a type, a pattern or the arguments of a macro, or an attribute that contains a path. A parent's `mod`
//! declarations and its re-exports of what is below it are not arrows.
//!
//! Not checked, on purpose: comments, strings, and code that only tests compile. Tests may import upward.
//!
//! Not seen, because it needs the compiler's knowledge of types and macros:
//!
//! - A method that is called on a value, where the file never names the value's type or trait.
//! - The `From` implementation that `?` or `.into()` selects, and every other implementation that only types select.
//! - A name inside a format string (`"{NAME}"`) that a glob import brought in by way of a re-export.
//! - What a macro expands to, except for the paths in its definition and in its arguments.
//! - A `macro_rules!` macro of a parent module that a child module calls by its bare name.
//! - A circle between a folder's `mod.rs` and a folder below it that goes through several files of that lower folder. The
//!   `mod.rs` is the root of what is below it, so only circles of files count there.

use std::fs;
use std::path::Path;

mod arrows;
mod graph;
mod layout;
mod names;
mod planted;
mod read;

/// Everything that is wrong with the tree in `src`, one paragraph per finding. Also the number of files and of arrows.
fn examine(src: &Path) -> (Vec<String>, usize, usize) {
    let lib = fs::read_to_string(src.join("lib.rs")).expect("src/lib.rs");
    let rooms = layout::rooms(&lib);
    let mut wrong = layout::rooms_match(src, &lib, &rooms);
    wrong.extend(layout::lib_declares_only(&lib));
    wrong.extend(layout::main_only_calls(src));
    wrong.extend(layout::folders(src));
    wrong.extend(layout::files(src));
    let tree = read::Tree::read(src);
    wrong.extend(tree.unread());
    let found = arrows::all(&tree);
    wrong.extend(found.hidden);
    wrong.extend(graph::upward(&tree, &found.arrows, &rooms));
    wrong.extend(graph::folder_circles(&tree, &found.arrows));
    wrong.extend(graph::file_circles(&tree, &found.arrows));
    (wrong, tree.files.len(), found.arrows.len())
}

#[test]
fn the_files_are_arranged_as_the_table_says() {
    let (wrong, files, arrows) = examine(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files > 150, "only {files} files were read");
    assert!(arrows > 1000, "only {arrows} arrows were found");
    assert!(wrong.is_empty(), "findings: {}\n\n{}\n", wrong.len(), wrong.join("\n\n"));
}
