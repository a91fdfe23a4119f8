//! The users file: one `USER:HASH` per line, as `htpasswd -B` writes it, or with argon2 hashes in PHC form.
//!
//! Weaker hashes are refused when the file is loaded. Blank lines and lines that begin with `#` are skipped.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use bcrypt::HashParts;
use sha2::{Digest, Sha256};

use super::argon2_hash::Argon2Hash;
pub(crate) use super::argon2_hash::{Scratch, Unable};
use crate::wire::basic_auth::MAX_USER;

/// OWASP's minimum bcrypt cost: with a lower one, the passwords of a stolen file are found too quickly.
const BCRYPT_LOW: u32 = 10;
/// Cost 16 takes 4 s of a CPU; one verification must not make the others wait longer.
const BCRYPT_MOST: u32 = 16;
/// bcrypt looks at the first 72 bytes of a password. `htpasswd` makes a hash of a longer one without a word, and then any
/// password that begins alike would fit.
pub(crate) const BCRYPT_BYTES: usize = 72;

/// The users of one file.
pub struct Users {
    places: HashMap<Box<str>, usize>,
    hashes: Vec<Hash>,
    /// Bytes that the most expensive of them needs while it is verified.
    hashing: u64,
    /// Of each hash.
    prints: Vec<HashPrint>,
    digest: [u8; 32],
    /// Whether the operator was told of a password that is too long.
    told_of_length: AtomicBool,
}

/// SHA-256 of a user's hash as it stands in the file: the same as long as the hash is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashPrint([u8; 32]);

/// A problem with a line of the users file. It never contains a hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineProblem {
    /// Counted from 1.
    pub line: u32,
    /// What is wrong, and what to do.
    pub text: String,
}

/// What a password is verified against.
enum Hash {
    Bcrypt(Box<str>),
    Argon2(Argon2Hash),
}

impl Users {
    /// Reads a users file. Also returns warnings: about hashes that are accepted but too weak for long use, and about a
    /// file without users.
    ///
    /// # Errors
    /// Every line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<LineProblem>), Vec<LineProblem>> {
        let mut users = Users {
            places: HashMap::new(),
            hashes: Vec::new(),
            hashing: 0,
            prints: Vec::new(),
            digest: Sha256::digest(bytes).into(),
            told_of_length: AtomicBool::new(false),
        };
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let mut lines: HashMap<Box<str>, u32> = HashMap::new();
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            if bytes.trim_ascii().is_empty() || bytes.starts_with(b"#") {
                continue;
            }
            match read_line(bytes) {
                Ok((user, hash, warning)) => {
                    warnings.extend(warning.map(|text| LineProblem { line, text }));
                    if let Some(first) = lines.insert(user.into(), line) {
                        let text =
                            format!("user {user:?} is already on line {first}: remove one of the lines");
                        problems.push(LineProblem { line, text });
                        continue;
                    }
                    users.places.insert(user.into(), users.hashes.len());
                    users.hashing = users.hashing.max(hash.memory());
                    users.hashes.push(hash);
                    // The user and the colon are the same as long as the user is.
                    users.prints.push(HashPrint(Sha256::digest(bytes).into()));
                }
                Err(text) => problems.push(LineProblem { line, text }),
            }
        }
        if users.hashes.is_empty() {
            warnings.push(LineProblem {
                line: 1,
                text: "the file has no users: every client is refused".to_owned(),
            });
        }
        if problems.is_empty() { Ok((users, warnings)) } else { Err(problems) }
    }

    /// The number of users.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are no users, so that every client is refused.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Bytes of memory that a verification takes at most. One is verified at a time.
    pub fn hashing(&self) -> u64 {
        self.hashing
    }

    /// Whether this user is in the file.
    pub fn has(&self, user: &str) -> bool {
        self.places.contains_key(user)
    }

    /// Every user, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(|user| &**user)
    }

    /// What changes when this user's hash does. `None`: there is no such user.
    pub(crate) fn print_of(&self, user: &str) -> Option<HashPrint> {
        self.places.get(user).and_then(|place| self.prints.get(*place)).copied()
    }

    /// Whether the password is longer than the hash that [`Users::check`] would use can verify. For an unknown user that is the
    /// stand-in's, so that the answer does not tell whether there is such a user.
    pub(crate) fn cannot_verify(&self, user: &str, password: &[u8], stand_in: usize) -> bool {
        let bcrypt = self.hash_for(user, stand_in).is_some_and(|hash| matches!(hash, Hash::Bcrypt(_)));
        bcrypt && password.len() > BCRYPT_BYTES
    }

    /// Whether this is the first password of this file that is too long.
    pub(crate) fn is_first_too_long(&self) -> bool {
        !self.told_of_length.swap(true, Ordering::Relaxed)
    }

    fn hash_for(&self, user: &str, stand_in: usize) -> Option<&Hash> {
        let other = stand_in.checked_rem(self.hashes.len())?;
        self.hashes.get(self.places.get(user).copied().unwrap_or(other))
    }

    /// SHA-256 of the file.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Hashes the password and compares, both for a known user and for an unknown one. The password of an unknown user
    /// is checked with the hash of the user number `stand_in` (modulo the number of users). The caller derives
    /// `stand_in` from a secret, always the same for a name, so an unknown user is as expensive as some known one, even
    /// in a file with mixed costs.
    pub(crate) fn check(
        &self,
        user: &str,
        password: &[u8],
        stand_in: usize,
        scratch: &mut Scratch,
    ) -> Result<bool, Unable> {
        let Some(hash) = self.hash_for(user, stand_in) else { return Ok(false) };
        // Computed in both cases: `&`, not `&&`.
        Ok(hash.fits(password, scratch)? & self.has(user))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl Hash {
    /// Bytes that a verification takes: bcrypt needs 4 KiB, which is nothing.
    fn memory(&self) -> u64 {
        match self {
            Hash::Bcrypt(_) => 0,
            Hash::Argon2(hash) => hash.memory(),
        }
    }

    /// Both compare in constant time.
    fn fits(&self, password: &[u8], scratch: &mut Scratch) -> Result<bool, Unable> {
        match self {
            Hash::Bcrypt(_) if password.len() > BCRYPT_BYTES => Ok(false),
            Hash::Bcrypt(hash) => bcrypt::verify(password, hash).map_err(|_| Unable),
            Hash::Argon2(hash) => hash.fits(password, scratch),
        }
    }
}

/// User, hash, and a warning about it.
type Line<'a> = (&'a str, Hash, Option<String>);

fn read_line(bytes: &[u8]) -> Result<Line<'_>, String> {
    let line = std::str::from_utf8(bytes)
        .map_err(|_| "the line is not UTF-8 text: save the file as UTF-8".to_owned())?;
    let (user, hash) = line.split_once(':').ok_or("no colon: write USER:HASH")?;
    if user.is_empty() {
        return Err("no user before the colon: write USER:HASH".to_owned());
    }
    if user.len() > MAX_USER {
        return Err("the user name is longer than 255 bytes: shorten it".to_owned());
    }
    if user.trim() != user || user.chars().any(char::is_control) {
        return Err("the user name has spaces around it, or control characters: remove them".to_owned());
    }
    let (hash, warning) = read_hash(hash).map_err(|text| format!("user {user:?}: {text}"))?;
    Ok((user, hash, warning.map(|text| format!("user {user:?}: {text}"))))
}

fn read_hash(text: &str) -> Result<(Hash, Option<String>), String> {
    if ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| text.starts_with(prefix)) {
        return read_bcrypt(text);
    }
    if text.starts_with("$argon2") {
        let (hash, warning) = Argon2Hash::read(text)?;
        return Ok((Hash::Argon2(hash), warning));
    }
    Err(format!("{} is not accepted: make a hash with `htpasswd -B -C 12 FILE USER`", name_weak(text)))
}

fn read_bcrypt(text: &str) -> Result<(Hash, Option<String>), String> {
    let cost = text
        .parse::<HashParts>()
        .map_err(|_| "the bcrypt hash is malformed: make one with `htpasswd -B -C 12 FILE USER`")?
        .get_cost();
    if !(4..=BCRYPT_MOST).contains(&cost) {
        return Err(format!(
            "the bcrypt cost is {cost}: it must be from 4 to {BCRYPT_MOST}, and 12 is a good one"
        ));
    }
    let warning = (cost < BCRYPT_LOW).then(|| {
        format!("a bcrypt cost of {cost} is low: make a better hash with `htpasswd -B -C 12 FILE USER`")
    });
    Ok((Hash::Bcrypt(text.into()), warning))
}

/// Names the usual kinds that are too weak. Shows nothing of the hash itself, which may be a cleartext password.
fn name_weak(text: &str) -> &'static str {
    let kinds = [
        ("$apr1$", "apr1 (MD5)"),
        ("$1$", "crypt's MD5"),
        ("{SHA}", "unsalted SHA-1"),
        ("{SSHA}", "SHA-1"),
        ("$5$", "crypt's SHA-256"),
        ("$6$", "crypt's SHA-512"),
        ("$2x$", "the faulty variant of bcrypt ($2x$)"),
    ];
    let kind = kinds.iter().find(|(prefix, _)| text.starts_with(prefix)).map(|(_, kind)| *kind);
    let is_crypt = |text: &str| {
        text.len() == 13 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte))
    };
    match kind {
        Some(kind) => kind,
        None if text.is_empty() => "an empty hash",
        None if is_crypt(text) => "crypt's DES",
        None => "a hash that is neither bcrypt nor argon2 (perhaps a cleartext password)",
    }
}

#[cfg(test)]
mod tests;
