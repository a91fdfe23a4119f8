//! What the arrows must not do: lead upward between rooms, or in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::arrows::Arrow;
use crate::read::Tree;

/// How many names of one edge are shown.
const SHOWN: usize = 8;

/// From one file or folder to another, with every use that makes the edge.
type Edges<'a, N> = BTreeMap<(N, N), Vec<&'a Arrow>>;

/// Uses of a room that stands above.
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
                "{}: upward: `{}` of {}\n  `{below}` stands below `{above}`: move it down to where both reach it, or \
                 have `{above}` hand it in",
                place(tree, arrow),
                arrow.name,
                tree.files[arrow.to].shown,
            ));
        }
    }
    wrong
}

/// Folders of one parent that need each other. Between rooms every circle has an arrow upward, which is told as such.
pub(crate) fn folder_circles(tree: &Tree, arrows: &[Arrow]) -> Vec<String> {
    // For every folder: which of its folders use which others of them.
    let mut edges: BTreeMap<&[String], Edges<'_, String>> = BTreeMap::new();
    for arrow in arrows {
        let (from, to) = (&tree.files[arrow.from].folders, &tree.files[arrow.to].folders);
        let shared = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        if shared > 0
            && let (Some(from), Some(to)) = (from.get(..=shared), to.get(..=shared))
        {
            let pair = (from.join("/"), to.join("/"));
            edges.entry(&from[..shared]).or_default().entry(pair).or_default().push(arrow);
        }
    }
    let circles = edges.into_values().flat_map(|edges| {
        let name = |folder: &String| format!("src/{folder}/");
        told(tree, "folders", &edges, name)
    });
    circles.collect()
}

/// Files that need each other.
pub(crate) fn file_circles(tree: &Tree, arrows: &[Arrow]) -> Vec<String> {
    let mut edges: Edges<'_, &str> = BTreeMap::new();
    for arrow in arrows {
        let pair = (tree.files[arrow.from].shown.as_str(), tree.files[arrow.to].shown.as_str());
        edges.entry(pair).or_default().push(arrow);
    }
    told(tree, "files", &edges, |file| (*file).to_owned())
}

fn told<N: Ord + Clone>(
    tree: &Tree,
    what: &str,
    edges: &Edges<'_, N>,
    name: impl Fn(&N) -> String,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for circle in circles(edges.keys()) {
        let mut text = format!("circle of {} {what}:", circle.len());
        for ((from, to), arrows) in edges {
            if circle.contains(from) && circle.contains(to) {
                let _ = write!(text, "\n  {} -> {}", name(from), name(to));
                for arrow in arrows.iter().take(SHOWN) {
                    let _ = write!(text, "\n      {}: {}", place(tree, arrow), arrow.name);
                }
                if arrows.len() > SHOWN {
                    let _ = write!(text, "\n      and {} more", arrows.len() - SHOWN);
                }
            }
        }
        text.push_str(
            "\n  move what both need below both, or hand it in, so that one of them need not know the other",
        );
        wrong.push(text);
    }
    wrong
}

fn place(tree: &Tree, arrow: &Arrow) -> String {
    format!("{}:{}", tree.files[arrow.from].shown, arrow.line)
}

/// The largest sets of more than one node of which each reaches each other.
pub(crate) fn circles<'a, N: Ord + Clone + 'a>(edges: impl Iterator<Item = &'a (N, N)>) -> Vec<BTreeSet<N>> {
    let mut next: BTreeMap<&N, Vec<&N>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().push(to);
        next.entry(to).or_default();
    }
    let reached = |start: &'a N| {
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
    let reach: BTreeMap<&N, BTreeSet<&N>> = next.keys().map(|node| (*node, reached(node))).collect();
    let mut found: Vec<BTreeSet<N>> = Vec::new();
    for (node, there) in &reach {
        if found.iter().any(|circle| circle.contains(*node)) {
            continue;
        }
        let circle: BTreeSet<N> = there
            .iter()
            .filter(|other| reach[**other].contains(*node))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}
