//! The modules of a crate, found as the compiler finds them: from `lib.rs` along the `mod` declarations.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::punctuated::Punctuated;
use syn::{Attribute, Item, ItemMod, Meta, Token};

use crate::layout;
use crate::names::Scope;

/// A file that is compiled into the program.
pub(crate) struct File {
    /// `src/room/file.rs`.
    pub(crate) shown: String,
    /// The folders below `src/` that it lies in: `["session", "http"]`.
    pub(crate) folders: Vec<String>,
}

pub(crate) struct Module {
    pub(crate) parent: Option<usize>,
    /// Index into [`Tree::files`] of the file that contains the module. An inline module has the file of the module around it.
    pub(crate) file: usize,
    pub(crate) items: Vec<Item>,
    pub(crate) scope: Scope,
}

pub(crate) struct Tree {
    src: PathBuf,
    pub(crate) files: Vec<File>,
    pub(crate) modules: Vec<Module>,
    /// Every file that a declaration leads to, files of tests included.
    reached: BTreeSet<PathBuf>,
}

impl Tree {
    /// # Panics
    ///
    /// If a file is missing or does not parse, which the compiler refuses too, or if a module has a `#[path]`.
    pub(crate) fn read(src: &Path) -> Self {
        let mut tree = Self {
            src: src.to_owned(),
            files: Vec::new(),
            modules: Vec::new(),
            reached: BTreeSet::from([src.join("main.rs")]),
        };
        tree.read_file(None, &src.join("lib.rs"), src);
        tree
    }

    /// Files that no declaration leads to. Nothing compiles or checks them.
    pub(crate) fn unread(&self) -> Vec<String> {
        let all = layout::sources(&self.src).into_iter().filter(|path| !self.reached.contains(path));
        all.map(|path| {
            let shown = layout::shown(&self.src, &path);
            format!("{shown}: no `mod` declaration leads from src/lib.rs to it: declare or remove it")
        })
        .collect()
    }

    /// Whether `module` is `ancestor` or lies in it.
    pub(crate) fn within(&self, module: usize, ancestor: usize) -> bool {
        let mut up = Some(module);
        while let Some(this) = up {
            if this == ancestor {
                return true;
            }
            up = self.modules[this].parent;
        }
        false
    }

    /// `children`: the folder with the files of its `mod` declarations.
    fn read_file(&mut self, parent: Option<usize>, path: &Path, children: &Path) -> usize {
        let items = parse(path);
        self.reached.insert(path.to_owned());
        let shown = layout::shown(&self.src, path);
        let folder = path.parent().and_then(|folder| folder.strip_prefix(&self.src).ok()).expect("below src");
        let folders = folder.iter().map(|name| name.to_str().expect("UTF-8").to_owned()).collect();
        self.files.push(File { shown, folders });
        self.read_module(parent, self.files.len() - 1, items, children)
    }

    fn read_module(
        &mut self,
        parent: Option<usize>,
        file: usize,
        items: Vec<Item>,
        children: &Path,
    ) -> usize {
        let this = self.modules.len();
        let mut scope = Scope::of(&items);
        let declared: Vec<ItemMod> = items
            .iter()
            .filter_map(|item| if let Item::Mod(module) = item { Some(module.clone()) } else { None })
            .collect();
        self.modules.push(Module { parent, file, items, scope: Scope::default() });
        for module in declared {
            let name = plain(&module.ident);
            let inside = children.join(&name);
            if only_tests(&module.attrs) {
                self.reach_tests(module, children);
                continue;
            }
            let child = match module.content {
                Some((_, items)) => self.read_module(Some(this), file, items, &inside),
                None => self.read_file(Some(this), &find(&module, children), &inside),
            };
            scope.module(name, child);
        }
        self.modules[this].scope = scope;
        this
    }

    /// Follows the declarations in tests, only to know that a declaration leads to their files.
    fn reach_tests(&mut self, module: ItemMod, children: &Path) {
        let inside = children.join(plain(&module.ident));
        let items = match module.content {
            Some((_, items)) => items,
            None => {
                let path = find(&module, children);
                let items = parse(&path);
                self.reached.insert(path);
                items
            }
        };
        for item in items {
            if let Item::Mod(module) = item {
                self.reach_tests(module, &inside);
            }
        }
    }
}

fn parse(path: &Path) -> Vec<Item> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).items
}

/// The file of `mod name;`. Where it is not allowed to be, [`layout::folders`] says so.
fn find(module: &ItemMod, children: &Path) -> PathBuf {
    let name = plain(&module.ident);
    assert!(
        !module.attrs.iter().any(|attribute| attribute.path().is_ident("path")),
        "mod {name} in {}: #[path] hides where a file lies: name the file as the module",
        children.display(),
    );
    let (flat, folder) = (children.join(format!("{name}.rs")), children.join(&name).join("mod.rs"));
    if flat.is_file() { flat } else { folder }
}

/// `r#type` is `type`.
pub(crate) fn plain(ident: &proc_macro2::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// Whether only tests compile what has these attributes: `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`.
pub(crate) fn only_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args().is_ok_and(|meta| needs_test(&meta))
        }
        meta => meta.path().segments.last().is_some_and(|last| last.ident == "test"),
    })
}

/// Whether a `cfg` predicate is true only in tests: `test`, or `all(test, …)`. `any(test, feature = "x")` is not: with the
/// feature, the program compiles it.
pub(crate) fn needs_test(predicate: &Meta) -> bool {
    match predicate {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|inside| inside.iter().any(needs_test)),
        _ => false,
    }
}

/// The attributes of an item of any kind.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
