//! Which file uses what of which other file.

use std::collections::HashSet;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, Item, LitStr, Meta, Pat, Stmt, UseTree, Visibility};

use crate::names::{From, Scope, Target, imports};
use crate::read::{Tree, attributes, names_test, only_tests, plain};

/// One use: indices into [`Tree::files`].
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) line: usize,
    /// The path as it is written there.
    pub(crate) name: String,
    pub(crate) to: usize,
}

/// Every arrow of the tree, each name once a pair of files.
pub(crate) fn all(tree: &Tree) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for (module, read) in tree.modules.iter().enumerate() {
        let mut reader = Reader { tree, module, blocks: Vec::new(), bound: Vec::new(), arrows: &mut arrows };
        for item in &read.items {
            reader.visit_item(item);
        }
    }
    let mut met = HashSet::new();
    arrows.retain(|arrow| met.insert((arrow.from, arrow.name.clone(), arrow.to)));
    arrows
}

struct Reader<'t> {
    tree: &'t Tree,
    module: usize,
    /// What the blocks around the place declare.
    blocks: Vec<Scope>,
    /// The variables of the functions around the place, which hide a function of the same name.
    bound: Vec<HashSet<String>>,
    arrows: &'t mut Vec<Arrow>,
}

impl Reader<'_> {
    fn from(&self) -> From<'_> {
        From { tree: self.tree, module: self.module, blocks: &self.blocks }
    }

    fn arrow(&mut self, target: Target, path: &[String], span: Span) {
        if let Target::Item(module) = target {
            let (from, to) = (self.tree.modules[self.module].file, self.tree.modules[module].file);
            if from != to {
                self.arrows.push(Arrow { from, line: span.start().line, name: path.join("::"), to });
            }
        }
    }

    /// A path in code. One that begins with what a `use` has brought adds nothing to that `use`.
    fn path(&mut self, path: &[String], span: Span) {
        if path.first().is_some_and(|first| self.from().imported(first)) {
            return;
        }
        for target in self.from().resolve(path) {
            self.arrow(target, path, span);
        }
    }

    /// A name alone, which may be that of a variable.
    fn word(&mut self, name: &str, span: Span) {
        if !self.bound.iter().any(|names| names.contains(name)) {
            self.path(&[name.to_owned()], span);
        }
    }

    fn import(&mut self, tree: &UseTree, again: bool) {
        for import in imports(tree) {
            let targets = self.from().resolve(&import.path);
            let module = targets.iter().any(|target| matches!(target, Target::Module(_)));
            for target in targets {
                match target {
                    // A parent hands out what is below it.
                    Target::Item(module) | Target::Module(module)
                        if again && self.tree.within(module, self.module) => {}
                    // A name of both a module and a function: which is meant shows where it is used, as for a module.
                    Target::Item(_) if !module => self.arrow(target, &import.path, import.span),
                    // Of a glob, that shows too, except a trait's methods.
                    Target::Module(module) if import.glob && self.tree.modules[module].scope.defines => {
                        let path = [&import.path[..], &["*".to_owned()]].concat();
                        self.arrow(Target::Item(module), &path, import.span);
                    }
                    Target::Item(_) | Target::Module(_) | Target::Outside => {}
                }
            }
        }
    }

    /// A macro's arguments, or an attribute's: every sequence of names with `::` between them, and single names that look
    /// like a type, a call or a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let punct = |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
        let mut at = 0;
        while at < tokens.len() {
            let start = at;
            at += 1;
            let ident = match &tokens[start] {
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    continue;
                }
                TokenTree::Ident(ident) => ident,
                _ => continue,
            };
            let mut path = vec![plain(ident)];
            while punct(at, ':') && punct(at + 1, ':') {
                let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
                path.push(plain(next));
                at += 3;
            }
            let before = |wanted| start > 0 && punct(start - 1, wanted);
            let follows_colons = start > 1 && before(':') && punct(start - 2, ':');
            if before('.') || before('\'') || follows_colons || (before('$') && path[0] != "crate") {
                continue; // A field or method, a lifetime, another crate's, a macro's variable.
            }
            if path.len() > 1 {
                self.path(&path, ident.span());
                continue;
            }
            let called = match tokens.get(at) {
                Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Parenthesis,
                _ => punct(at, '!') && !punct(at + 1, '='),
            };
            if called {
                self.path(&path, ident.span());
            } else if path[0].starts_with(char::is_uppercase) || before('=') {
                self.word(&path[0], ident.span());
            }
        }
    }

    /// `with = "path"` and the like. Every other string is only text.
    fn strings(&mut self, tokens: TokenStream) {
        const PATHS: [&str; 13] = [
            "with",
            "serialize_with",
            "deserialize_with",
            "skip_serializing_if",
            "default",
            "schema_with",
            "getter",
            "from",
            "try_from",
            "into",
            "remote",
            "crate",
            "transform",
        ];
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for token in &tokens {
            if let TokenTree::Group(group) = token {
                self.strings(group.stream());
            }
        }
        for three in tokens.windows(3) {
            if let [TokenTree::Ident(key), TokenTree::Punct(equals), TokenTree::Literal(text)] = three
                && equals.as_char() == '='
                && PATHS.contains(&plain(key).as_str())
                && let Ok(text) = syn::parse_str::<LitStr>(&text.to_string())
                && let Ok(stream) = text.value().parse::<TokenStream>()
                && let Ok(kind) = syn::parse2::<syn::Type>(respanned(stream, three[2].span()))
            {
                self.visit_type(&kind);
            }
        }
    }
}

/// The tokens as if they stood at `span`: those out of a string know no place.
fn respanned(tokens: TokenStream, span: Span) -> TokenStream {
    let tokens = tokens.into_iter().map(|mut token| {
        if let TokenTree::Group(group) = &token {
            token =
                TokenTree::Group(proc_macro2::Group::new(group.delimiter(), respanned(group.stream(), span)));
        }
        token.set_span(span);
        token
    });
    tokens.collect()
}

/// The variables that the patterns of a function bind.
#[derive(Default)]
struct Bindings(HashSet<String>);

impl Visit<'_> for Bindings {
    fn visit_pat_ident(&mut self, pattern: &syn::PatIdent) {
        let name = plain(&pattern.ident);
        if !name.starts_with(char::is_uppercase) {
            self.0.insert(name);
        }
        visit::visit_pat_ident(self, pattern);
    }
}

/// Goes on below, unless only tests compile it.
macro_rules! unless_tests {
    ($($name:ident($kind:ty);)*) => {
        $(fn $name(&mut self, node: &'ast $kind) {
            if !only_tests(&node.attrs) {
                visit::$name(self, node);
            }
        })*
    };
}

/// The same, for a function: with its variables.
macro_rules! function {
    ($($name:ident($kind:ty);)*) => {
        $(fn $name(&mut self, node: &'ast $kind) {
            if !only_tests(&node.attrs) {
                let mut bindings = Bindings::default();
                bindings.$name(node);
                self.bound.push(bindings.0);
                visit::$name(self, node);
                self.bound.pop();
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Reader<'_> {
    unless_tests! {
        visit_impl_item_const(syn::ImplItemConst);
        visit_impl_item_macro(syn::ImplItemMacro);
        visit_impl_item_type(syn::ImplItemType);
        visit_trait_item_const(syn::TraitItemConst);
        visit_trait_item_macro(syn::TraitItemMacro);
        visit_trait_item_type(syn::TraitItemType);
        visit_field(syn::Field);
        visit_field_value(syn::FieldValue);
        visit_field_pat(syn::FieldPat);
        visit_variant(syn::Variant);
        visit_arm(syn::Arm);
        visit_local(syn::Local);
        visit_stmt_macro(syn::StmtMacro);
        visit_expr_block(syn::ExprBlock);
        visit_expr_if(syn::ExprIf);
        visit_expr_assign(syn::ExprAssign);
        visit_expr_macro(syn::ExprMacro);
        visit_expr_method_call(syn::ExprMethodCall);
    }

    function! {
        visit_item_fn(syn::ItemFn);
        visit_impl_item_fn(syn::ImplItemFn);
        visit_trait_item_fn(syn::TraitItemFn);
    }

    /// A module inside is read by itself.
    fn visit_item(&mut self, item: &'ast Item) {
        if !matches!(item, Item::Mod(_)) && !only_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, !matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let items = block.stmts.iter().filter_map(|statement| match statement {
            Stmt::Item(item) => Some(item),
            _ => None,
        });
        self.blocks.push(Scope::of(items));
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if only_tests(&call.attrs) {
            return;
        }
        match &*call.func {
            // Called, it is a function even where a variable has its name: `let host = host(text)`.
            Expr::Path(path) if path.qself.is_none() && path.path.get_ident().is_some() => {
                let ident = path.path.segments[0].ident.clone();
                self.path(&[plain(&ident)], ident.span());
            }
            other => self.visit_expr(other),
        }
        call.args.iter().for_each(|argument| self.visit_expr(argument));
    }

    fn visit_pat(&mut self, pattern: &'ast Pat) {
        if let Pat::Ident(ident) = pattern
            && ident.ident.to_string().starts_with(char::is_uppercase)
        {
            self.word(&plain(&ident.ident), ident.ident.span());
        }
        visit::visit_pat(self, pattern);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let names: Vec<String> = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
            match &names[..] {
                [name] => self.word(name, first.ident.span()),
                names => self.path(names, first.ident.span()),
            }
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    /// `pub(in crate::room)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta
            && !list.path.is_ident("doc")
            && !(list.path.is_ident("cfg_attr") && of_tests(list))
        {
            self.tokens(list.tokens.clone());
            self.strings(list.tokens.clone());
        }
    }
}

/// `cfg_attr(test, …)`.
fn of_tests(list: &syn::MetaList) -> bool {
    let inside = list.parse_args_with(syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated);
    inside.is_ok_and(|inside| inside.first().is_some_and(names_test))
}
