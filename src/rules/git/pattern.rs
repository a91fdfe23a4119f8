//! Patterns of repositories and of refs. In both `*` stands for one or more characters between two `/`, and `**` at the end for
//! all that is below.

use std::fmt;

use super::super::path::{PathPattern, PathPatternError};
use crate::words::git::{RefName, Repository};

/// Repositories that a rule is for: `/v1/repos/test-repo`, `/group/infra-*`, `/group/**`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepositoryPattern {
    written: Box<str>,
    /// Of the form that [`Repository`] has.
    pub(super) path: PathPattern,
}

/// Refs that a rule is for: `refs/heads/main`, `refs/heads/release-*`, `refs/tags/**`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefPattern {
    written: Box<str>,
    /// Without the last `**`.
    segments: Box<[Segment]>,
    /// Whether it ends with `**`.
    under: bool,
}

/// Why a text is no pattern of refs, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefPatternError(String);

/// The pieces between the `*`: one alone is the text itself.
type Segment = Box<[Box<str>]>;

impl RepositoryPattern {
    /// Reads a pattern. `X`, `X/` and `X.git` are the same repository, as they are on servers; CodeCommit has no names with `.git`.
    ///
    /// # Errors
    /// As for a pattern of paths.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let path = text.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(text);
        let path = path.strip_suffix(".git").filter(|path| !path.ends_with('/')).unwrap_or(path);
        // In a request the digits are in upper case.
        Ok(RepositoryPattern { written: text.into(), path: PathPattern::parse(&upper_case_digits(path))? })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it stands for the repository.
    pub fn matches(&self, repository: &Repository) -> bool {
        self.path.matches(repository.as_str())
    }
}

fn upper_case_digits(path: &str) -> String {
    let mut digits = 0;
    let upper = path.chars().map(|c| {
        let is_digit = digits > 0;
        digits = if c == '%' { 2 } else { digits - i32::from(is_digit) };
        if is_digit { c.to_ascii_uppercase() } else { c }
    });
    upper.collect()
}

impl RefPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It stands for no ref.
    pub fn parse(text: &str) -> Result<Self, RefPatternError> {
        let body = text.strip_suffix("/**").unwrap_or(text);
        if ["*", "**"].contains(&text) {
            return Err(RefPatternError(
                "every ref is written `refs/**`, every branch `refs/heads/**`; without `refs` any may change"
                    .to_owned(),
            ));
        }
        if body.contains("**") {
            return Err(RefPatternError(
                "`**` stands alone at the end, as in `refs/tags/**`; within a name write `*`, which is for one part".to_owned(),
            ));
        }
        // A `*` is one character at least.
        let example = body.replace('*', "x");
        let example = if body.len() < text.len() { example + "/x" } else { example };
        if let Err(why) = RefName::new(example.as_bytes()) {
            let instead = match text {
                "HEAD" => "; HEAD is no ref of a push: write the branch that it stands for".to_owned(),
                _ if text.starts_with("refs/") || text.contains("refs/") => String::new(),
                _ => format!("; write `refs/heads/{text}` for a branch, `refs/tags/{text}` for a tag"),
            };
            return Err(RefPatternError(format!("no ref has {why}{instead}")));
        }
        let segments = body.split('/').map(|segment| segment.split('*').map(Box::from).collect());
        Ok(RefPattern { written: text.into(), segments: segments.collect(), under: body.len() < text.len() })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether every ref that `other` stands for is one that `self` stands for. `false`: that is not certain.
    ///
    /// A `*` of `other` is one or more characters, so it is covered where a `*` of `self` takes it as a character.
    pub(super) fn covers(&self, other: &RefPattern) -> bool {
        let body = other.written.strip_suffix("/**").unwrap_or(&other.written);
        let mut rest = body.split('/');
        let all = self
            .segments
            .iter()
            .all(|segment| rest.next().is_some_and(|rest| segment_matches(segment, rest.as_bytes())));
        all && (rest.next().is_some() || other.under) == self.under
    }

    /// Refs that it stands for, and that no other pattern stands for by chance.
    pub(super) fn examples(&self) -> Vec<String> {
        let below = ["/egressd-example", "/egressd-example/egressd-example"];
        let texts = if self.under {
            below.map(|below| self.written.replace("/**", below)).to_vec()
        } else {
            vec![self.written.to_string()]
        };
        texts.iter().map(|text| text.replace('*', "egressd-example")).collect()
    }

    /// Whether it stands for the ref. It takes time linear in the name.
    pub fn matches(&self, name: &RefName) -> bool {
        let mut parts = name.as_str().split('/');
        let all = self
            .segments
            .iter()
            .all(|segment| parts.next().is_some_and(|part| segment_matches(segment, part.as_bytes())));
        // A name has no empty part, so what is left is the name of something below.
        all && parts.next().is_some() == self.under
    }
}

/// The first place of each piece is as good as any later one. Bytes of UTF-8 are enough: a piece is found between characters alone.
fn segment_matches(segment: &[Box<str>], part: &[u8]) -> bool {
    let Some((first, rest)) = segment.split_first() else { return false };
    let Some(mut part) = part.strip_prefix(first.as_bytes()) else { return false };
    let Some((last, between)) = rest.split_last() else { return part.is_empty() };
    for piece in between {
        // Each `*` takes one character at least.
        let Some(after) = part.get(1..) else { return false };
        let Some(at) = memchr::memmem::find(after, piece.as_bytes()) else { return false };
        part = after.get(at + piece.len()..).unwrap_or_default();
    }
    part.len() > last.len() && part.ends_with(last.as_bytes())
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Display for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Display for RefPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
