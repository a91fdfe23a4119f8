//! Which file uses what of which other file.

use std::collections::HashSet;

use proc_macro2::{Delimiter, Literal, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, Item, LitStr, Meta, Pat, Stmt, UseTree, Visibility};

use crate::names::{From, Scope, Target, imports};
use crate::read::{Tree, attributes, needs_test, only_tests, plain};

/// One use: indices into [`Tree::files`].
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) line: usize,
    /// The path as the file writes it.
    pub(crate) name: String,
    pub(crate) to: usize,
}

pub(crate) struct Found {
    /// A name that one file uses several times of another appears once.
    pub(crate) arrows: Vec<Arrow>,
    /// What would hide arrows from this reader, one finding each.
    pub(crate) hidden: Vec<String>,
}

/// Every arrow of the tree.
pub(crate) fn all(tree: &Tree) -> Found {
    let (mut arrows, mut hidden) = (Vec::new(), Vec::new());
    for (module, read) in tree.modules.iter().enumerate() {
        let mut reader = Reader {
            tree,
            module,
            blocks: Vec::new(),
            bound: Vec::new(),
            arrows: &mut arrows,
            hidden: &mut hidden,
        };
        for item in &read.items {
            reader.visit_item(item);
        }
    }
    let mut met = HashSet::new();
    arrows.retain(|arrow| met.insert((arrow.from, arrow.name.clone(), arrow.to)));
    Found { arrows, hidden }
}

struct Reader<'t> {
    tree: &'t Tree,
    module: usize,
    /// What the blocks around this place declare.
    blocks: Vec<Scope>,
    /// The variables of the functions around this place. A variable hides a function of the same name.
    bound: Vec<HashSet<String>>,
    arrows: &'t mut Vec<Arrow>,
    hidden: &'t mut Vec<String>,
}

impl Reader<'_> {
    fn from(&self) -> From<'_> {
        From { tree: self.tree, module: self.module, blocks: &self.blocks }
    }

    fn hides(&mut self, span: Span, what: &str) {
        let file = &self.tree.files[self.tree.modules[self.module].file].shown;
        self.hidden.push(format!("{file}:{}: {what}", span.start().line));
    }

    fn arrow(&mut self, target: Target, path: &[String], span: Span) {
        if let Target::Item(module) = target {
            let (from, to) = (self.tree.modules[self.module].file, self.tree.modules[module].file);
            if from != to {
                self.arrows.push(Arrow { from, line: span.start().line, name: path.join("::"), to });
            }
        }
    }

    /// A path in code. If it begins with a name that a `use` has imported, that `use` is the arrow, and the path adds none.
    fn path(&mut self, path: &[String], span: Span) {
        if path.first().is_some_and(|first| self.from().imported(first)) {
            return;
        }
        for target in self.from().resolve(path) {
            self.arrow(target, path, span);
        }
    }

    /// A name alone, which may be a variable.
    fn word(&mut self, name: &str, span: Span) {
        if !self.bound.iter().any(|names| names.contains(name)) {
            self.path(&[name.to_owned()], span);
        }
    }

    fn import(&mut self, tree: &UseTree, again: bool) {
        for import in imports(tree) {
            if let [root, name] = &import.path[..]
                && matches!(root.as_str(), "std" | "core")
                && name == "include"
            {
                self.hides(import.span, INCLUDE);
            }
            let targets = self.from().resolve(&import.path);
            let module = targets.iter().any(|target| matches!(target, Target::Module(_)));
            for target in targets {
                match target {
                    // A parent re-exports what is below it.
                    Target::Item(module) | Target::Module(module)
                        if again && self.tree.within(module, self.module) => {}
                    // The name of a module, or of a module and a function: the place that uses it shows what is meant.
                    Target::Item(_) if !module => self.arrow(target, &import.path, import.span),
                    // A glob may bring in a trait, whose methods are called without its name: the glob itself is the arrow.
                    Target::Module(module) if import.glob && self.tree.modules[module].scope.defines => {
                        let path = [&import.path[..], &["*".to_owned()]].concat();
                        self.arrow(Target::Item(module), &path, import.span);
                    }
                    Target::Item(_) | Target::Module(_) | Target::Outside => {}
                }
            }
        }
    }

    /// The arguments of a macro or of an attribute: every sequence of names with `::` between them, and single names that
    /// look like a type, a call or a macro.
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
                continue; // A field or method, a lifetime, a name of another crate, a macro's variable.
            }
            if path.last().is_some_and(|last| last == "include") && punct(at, '!') {
                self.hides(ident.span(), INCLUDE);
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

    /// `with = "path"`, `bound = "T: path"` and the like. Every other string is only text.
    fn strings(&mut self, tokens: TokenStream) {
        const PATHS: [&str; 14] = [
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
            "bound",
        ];
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for token in &tokens {
            if let TokenTree::Group(group) = token {
                self.strings(group.stream());
            }
        }
        // `bound(serialize = "T: path", deserialize = "T: path")`.
        for two in tokens.windows(2) {
            if let [TokenTree::Ident(key), TokenTree::Group(group)] = two
                && key == "bound"
            {
                for token in group.stream() {
                    if let TokenTree::Literal(text) = token {
                        self.text(&text);
                    }
                }
            }
        }
        for three in tokens.windows(3) {
            if let [TokenTree::Ident(key), TokenTree::Punct(equals), TokenTree::Literal(text)] = three
                && equals.as_char() == '='
                && PATHS.contains(&plain(key).as_str())
            {
                self.text(text);
            }
        }
    }

    /// A string that contains a type, a path, a bound or an expression.
    fn text(&mut self, text: &Literal) {
        if let Ok(string) = syn::parse_str::<LitStr>(&text.to_string())
            && let Ok(stream) = string.value().parse::<TokenStream>()
        {
            let stream = respanned(stream, text.span());
            match syn::parse2::<syn::Type>(stream.clone()) {
                Ok(kind) => self.visit_type(&kind),
                Err(_) => self.tokens(stream),
            }
        }
    }
}

const INCLUDE: &str = "`include!` hides what the file uses: make the source a module";

/// The tokens with the place `span`. Tokens parsed from a string have no place in the file.
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

/// Visits what is inside, unless only tests compile it.
macro_rules! unless_tests {
    ($($name:ident($kind:ty);)*) => {
        $(fn $name(&mut self, node: &'ast $kind) {
            if !only_tests(&node.attrs) {
                visit::$name(self, node);
            }
        })*
    };
}

/// The same for a function, with its variables.
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

    /// A module inside is read separately.
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            item if only_tests(attributes(item)) => {}
            Item::Mod(module) => module.attrs.iter().for_each(|attribute| self.visit_attribute(attribute)),
            item => visit::visit_item(self, item),
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if item.ident == "self" {
            self.hides(
                item.ident.span(),
                "a second name of the crate hides what is used by it: write `crate::`",
            );
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
            // A call is of a function, even where a variable has the same name: `let host = host(text)`.
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
        if call.path.segments.last().is_some_and(|last| last.ident == "include") {
            self.hides(call.path.segments[0].ident.span(), INCLUDE);
        }
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    /// `pub(in crate::room)` does not use the room.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("macro_export") || attribute.path().is_ident("macro_use") {
            let what = "a macro without a module's path hides which files use it: re-export it with `pub(crate) use`";
            self.hides(attribute.pound_token.spans[0], what);
        }
        if let Meta::NameValue(value) = &attribute.meta {
            self.visit_expr(&value.value);
        }
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
    inside.is_ok_and(|inside| inside.first().is_some_and(needs_test))
}
