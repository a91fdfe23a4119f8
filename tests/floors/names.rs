//! What a name means in a module, and which file defines it. Imports and re-exports are followed to their end.

use std::collections::HashMap;

use proc_macro2::Span;
use syn::{Item, UseTree, Visibility};

use crate::read::{Tree, attributes, only_tests, plain};

/// The names that a module, or a block of statements, declares.
#[derive(Default)]
pub(crate) struct Scope {
    names: HashMap<String, Vec<Meaning>>,
    /// The paths before `::*`.
    globs: Vec<Vec<String>>,
    /// Whether it has items of its own, in addition to modules and imports.
    pub(crate) defines: bool,
}

/// One name may have several meanings: a module, and a function of the same name.
enum Meaning {
    Module(usize),
    /// Defined here.
    Own,
    Import {
        path: Vec<String>,
        again: bool,
    },
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A module itself.
    Module(usize),
    /// Something that this module defines.
    Item(usize),
    /// Another crate, through an import.
    Outside,
}

/// One leaf of a `use` declaration.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name that it declares. A glob and `as _` declare none.
    name: Option<String>,
    pub(crate) glob: bool,
    pub(crate) span: Span,
}

/// The place where a name is used: a module, and the blocks around the place, from the outermost.
#[derive(Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) module: usize,
    pub(crate) blocks: &'a [Scope],
}

impl Scope {
    /// What `items` declare, without items of tests and without modules: [`Scope::module`] adds those.
    pub(crate) fn of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        let mut scope = Self::default();
        for item in items {
            if only_tests(attributes(item)) {
                continue;
            }
            let own = match item {
                Item::Use(item) if item.leading_colon.is_none() => {
                    scope.import(&item.tree, !matches!(item.vis, Visibility::Inherited));
                    continue;
                }
                Item::Const(item) => Some(&item.ident),
                Item::Enum(item) => Some(&item.ident),
                Item::Fn(item) => Some(&item.sig.ident),
                Item::Macro(item) => item.ident.as_ref(),
                Item::Static(item) => Some(&item.ident),
                Item::Struct(item) => Some(&item.ident),
                Item::Trait(item) => Some(&item.ident),
                Item::TraitAlias(item) => Some(&item.ident),
                Item::Type(item) => Some(&item.ident),
                Item::Union(item) => Some(&item.ident),
                _ => None,
            };
            scope.defines |= !matches!(item, Item::Use(_) | Item::Mod(_));
            if let Some(name) = own {
                scope.names.entry(plain(name)).or_default().push(Meaning::Own);
            }
        }
        scope
    }

    pub(crate) fn module(&mut self, name: String, module: usize) {
        self.names.entry(name).or_default().push(Meaning::Module(module));
    }

    fn import(&mut self, tree: &UseTree, again: bool) {
        for import in imports(tree) {
            if import.glob {
                self.globs.push(import.path);
            } else if let Some(name) = import.name {
                let meaning = Meaning::Import { path: import.path, again };
                self.names.entry(name).or_default().push(meaning);
            }
        }
    }
}

/// The leaves of a `use` declaration: `a::{self, b as c, d::*}` has three.
pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    fn walk(tree: &UseTree, before: &[String], all: &mut Vec<Import>) {
        let mut path = before.to_vec();
        match tree {
            UseTree::Path(inner) => {
                path.push(plain(&inner.ident));
                walk(&inner.tree, &path, all);
            }
            UseTree::Name(leaf) => {
                if leaf.ident != "self" {
                    path.push(plain(&leaf.ident));
                }
                all.push(Import { name: path.last().cloned(), path, glob: false, span: leaf.ident.span() });
            }
            UseTree::Rename(leaf) => {
                if leaf.ident != "self" {
                    path.push(plain(&leaf.ident));
                }
                let name = Some(plain(&leaf.rename)).filter(|name| name != "_");
                all.push(Import { path, name, glob: false, span: leaf.ident.span() });
            }
            UseTree::Glob(leaf) => {
                all.push(Import { path, name: None, glob: true, span: leaf.star_token.spans[0] });
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, before, all)),
        }
    }
    let mut all = Vec::new();
    walk(tree, &[], &mut all);
    all
}

impl<'a> From<'a> {
    /// What `path` leads to. Nothing, or [`Target::Outside`], if it leads out of the crate.
    pub(crate) fn resolve(self, path: &[String]) -> Vec<Target> {
        self.follow(path, &mut Vec::new())
    }

    /// Whether a private `use` in scope has imported `name` from another module. Then that `use` is the arrow, and later uses
    /// of the name add none. The import of a *module* is not an arrow yet: what the code names in the module is.
    pub(crate) fn imported(self, name: &str) -> bool {
        let scopes = self.blocks.iter().rev().chain([&self.tree.modules[self.module].scope]);
        let Some(meanings) = scopes.filter_map(|scope| scope.names.get(name)).next() else { return false };
        meanings.iter().all(|meaning| match meaning {
            Meaning::Import { path, again: false } => {
                !self.resolve(path).iter().any(|target| matches!(target, Target::Module(_)))
            }
            _ => false,
        })
    }

    /// `seen`: the lookups in progress, because imports may form a circle: `use explain::explain`.
    fn follow(self, path: &[String], seen: &mut Vec<(usize, Vec<String>)>) -> Vec<Target> {
        let Some((first, mut rest)) = path.split_first() else { return Vec::new() };
        let question = (self.module, path.to_vec());
        if seen.contains(&question) {
            return Vec::new();
        }
        seen.push(question);
        let mut here = match first.as_str() {
            "crate" => vec![Target::Module(0)],
            "self" => vec![Target::Module(self.module)],
            "super" => self.tree.modules[self.module].parent.map(Target::Module).into_iter().collect(),
            name => self.first(name, rest.is_empty(), seen),
        };
        while let Some((name, after)) = rest.split_first() {
            let Some(module) = here.iter().find_map(|target| match target {
                Target::Module(module) => Some(*module),
                Target::Item(_) | Target::Outside => None,
            }) else {
                break; // A variant, a method or a constant of a type: the file of the type counts.
            };
            here = match name.as_str() {
                "super" => self.tree.modules[module].parent.map(Target::Module).into_iter().collect(),
                name => {
                    let found =
                        From { tree: self.tree, module, blocks: &[] }.declared(name, after.is_empty(), seen);
                    // If nothing declares the name, a macro call in that module defines it.
                    if found.is_empty() { vec![Target::Item(module)] } else { found }
                }
            };
            rest = after;
        }
        seen.pop();
        here
    }

    /// The first name of a path, looked up in the blocks around it, from the innermost, and then in the module.
    fn first(self, name: &str, last: bool, seen: &mut Vec<(usize, Vec<String>)>) -> Vec<Target> {
        for (index, scope) in self.blocks.iter().enumerate().rev() {
            let inside = From { blocks: &self.blocks[..index], ..self };
            let found = inside.in_scope(scope, name, last, seen);
            if !found.is_empty() {
                return found;
            }
        }
        self.declared(name, last, seen)
    }

    /// What the module declares or imports by that name.
    fn declared(self, name: &str, last: bool, seen: &mut Vec<(usize, Vec<String>)>) -> Vec<Target> {
        let question = (self.module, vec!["self".to_owned(), name.to_owned()]);
        if seen.contains(&question) {
            return Vec::new(); // Two modules with a glob import of each other.
        }
        seen.push(question);
        let scope = &self.tree.modules[self.module].scope;
        let found = From { blocks: &[], ..self }.in_scope(scope, name, last, seen);
        seen.pop();
        found
    }

    /// `last`: nothing follows the name. A name before `::` means the module of that name, if there is one.
    fn in_scope(
        self,
        scope: &Scope,
        name: &str,
        last: bool,
        seen: &mut Vec<(usize, Vec<String>)>,
    ) -> Vec<Target> {
        if let Some(meanings) = scope.names.get(name) {
            let module = meanings.iter().find_map(|meaning| match meaning {
                Meaning::Module(module) => Some(Target::Module(*module)),
                _ => None,
            });
            if let Some(module) = module.filter(|_| !last) {
                return vec![module];
            }
            let mut found = Vec::new();
            for meaning in meanings {
                match meaning {
                    Meaning::Module(module) => found.push(Target::Module(*module)),
                    Meaning::Own => found.push(Target::Item(self.module)),
                    Meaning::Import { path, .. } => {
                        let led = self.follow(path, seen);
                        found.extend(if led.is_empty() { vec![Target::Outside] } else { led });
                    }
                }
            }
            return found;
        }
        for path in &scope.globs {
            for target in self.follow(path, seen) {
                if let Target::Module(module) = target {
                    let found = From { tree: self.tree, module, blocks: &[] }.declared(name, last, seen);
                    if !found.is_empty() {
                        return found;
                    }
                }
            }
        }
        Vec::new()
    }
}
