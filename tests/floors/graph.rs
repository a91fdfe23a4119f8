//! What the arrows must not do: go upward between rooms, or form a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::arrows::Arrow;
use crate::read::{File, Tree};

/// How many uses of one edge a finding shows.
const SHOWN: usize = 8;

/// From one file or folder to another, each by the name that is shown, with every use that makes the edge.
type Edges<'a> = BTreeMap<(String, String), Vec<&'a Arrow>>;

/// Uses of a room that is higher in the table.
pub(crate) fn upward(tree: &Tree, arrows: &[Arrow], rooms: &[String]) -> Vec<String> {
    let floor = |file: usize| {
        let room = tree.files[file].folders.first()?;
        rooms.iter().position(|name| name == room).map(|floor| (floor, room))
    };
    let mut wrong = Vec::new();
    for arrow in arrows {
        if let (Some((own, below)), Some((there, above))) = (floor(arrow.from), floor(arrow.to))
            && there < own
        {
            wrong.push(format!(
                "{}: upward: `{}` of {}\n  `{below}` stands below `{above}`: move what is used down to where both reach it, \
                 or let `{above}` pass it in",
                place(tree, arrow),
                arrow.name,
                tree.files[arrow.to].shown,
            ));
        }
    }
    wrong
}

/// Folders, and files next to them, that need each other. A circle that consists only of files is left to [`file_circles`]. A
/// circle between rooms always has an arrow upward, which [`upward`] reports.
pub(crate) fn folder_circles(tree: &Tree, arrows: &[Arrow]) -> Vec<String> {
    // For every folder: which of its children use which others.
    let mut edges: BTreeMap<&[String], Edges<'_>> = BTreeMap::new();
    for arrow in arrows {
        let (from, to) = (&tree.files[arrow.from], &tree.files[arrow.to]);
        let shared = from.folders.iter().zip(&to.folders).take_while(|(from, to)| from == to).count();
        if shared > 0
            && let (Some(from_child), Some(to_child)) = (child(from, shared), child(to, shared))
        {
            let parent = &from.folders[..shared];
            edges.entry(parent).or_default().entry((from_child, to_child)).or_default().push(arrow);
        }
    }
    edges
        .values()
        .flat_map(|edges| report(tree, edges))
        .filter(|(kind, _)| *kind != FILES)
        .map(|(_, text)| text)
        .collect()
}

/// The child of the folder at this depth that `file` belongs to: the next folder, or the file itself. The folder's own
/// `mod.rs` is not a child.
fn child(file: &File, depth: usize) -> Option<String> {
    match file.folders.get(..=depth) {
        Some(folders) => Some(format!("src/{}/", folders.join("/"))),
        None => Some(file.shown.clone()).filter(|shown| !shown.ends_with("/mod.rs")),
    }
}

/// Files that need each other.
pub(crate) fn file_circles(tree: &Tree, arrows: &[Arrow]) -> Vec<String> {
    let mut edges = Edges::new();
    for arrow in arrows {
        let pair = (tree.files[arrow.from].shown.clone(), tree.files[arrow.to].shown.clone());
        edges.entry(pair).or_default().push(arrow);
    }
    report(tree, &edges).into_iter().map(|(_, text)| text).collect()
}

const FILES: &str = "files";

/// For each circle: what it consists of, and the text of the finding.
fn report(tree: &Tree, edges: &Edges<'_>) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for circle in circles(edges.keys()) {
        let folders = circle.iter().filter(|name| name.ends_with('/')).count();
        let kind = match folders {
            0 => FILES,
            all if all == circle.len() => "folders",
            _ => "files and folders",
        };
        let mut text = format!("circle of {} {kind}:", circle.len());
        for ((from, to), arrows) in edges {
            if circle.contains(from.as_str()) && circle.contains(to.as_str()) {
                let _ = write!(text, "\n  {from} -> {to}");
                for arrow in arrows.iter().take(SHOWN) {
                    let _ = write!(text, "\n      {}: {}", place(tree, arrow), arrow.name);
                }
                if arrows.len() > SHOWN {
                    let _ = write!(text, "\n      and {} more", arrows.len() - SHOWN);
                }
            }
        }
        text.push_str(
            "\n  move what both need below both, or pass it in, so that one of them does not need the other",
        );
        found.push((kind, text));
    }
    found
}

fn place(tree: &Tree, arrow: &Arrow) -> String {
    format!("{}:{}", tree.files[arrow.from].shown, arrow.line)
}

/// The largest sets of more than one node in which each node reaches every other.
fn circles<'a>(edges: impl Iterator<Item = &'a (String, String)>) -> Vec<BTreeSet<&'a str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().push(to);
        next.entry(to).or_default();
    }
    let reached = |start: &'a str| {
        let mut met = BTreeSet::new();
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            for to in &next[node] {
                if met.insert(*to) {
                    open.push(to);
                }
            }
        }
        met
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|node| (*node, reached(node))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (node, there) in &reach {
        if found.iter().any(|circle| circle.contains(node)) {
            continue;
        }
        let circle: BTreeSet<&str> =
            there.iter().copied().filter(|other| reach[other].contains(node)).collect();
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}
