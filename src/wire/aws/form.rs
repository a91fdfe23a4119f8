//! Bodies in which services of AWS look for parameters. The older ones read them from the query and from the body of a form alike,
//! credentials among them; S3 takes uploads by browsers whose credentials are parts of the body.
//!
//! What a service does with a body that says nothing of itself, or something odd, is not known from outside. So such a body is read
//! as a form too. A PUT is not, unless it calls itself a form: its body is an object, of any size, and no service looks for parameters
//! there. Not here: the query ([`query`]).

use super::carriers::{Carrier, carrier, fold};
use super::query;
use crate::words::aws::CredentialsError;

/// The longest body that is read: a message of 256 KiB, encoded, has three times as many bytes, and the list of 10,000 parts that
/// completes an upload to S3 has up to 180 for each.
pub const MAX_FORM: usize = 2 << 20;

/// The most fields of one: each costs more to look at than its bytes. Such a list has 40,000.
const MAX_FIELDS: usize = 50_000;

/// The longest name that is looked at. No program takes a longer one for one of fifteen letters.
const MAX_NAME: usize = 4096;

/// So much is looked at in one step.
const STEP_FIELDS: usize = 1_000;
const STEP_BYTES: usize = 64 * 1024;

/// What a body may be to a service that looks for parameters in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A form, by its type. There is nothing else in it.
    Named,
    /// It does not say what it is, or in a word that says nothing. Mostly it is something else.
    Unnamed,
    /// One of the two in a coding, or in characters, in which a name does not look like what it is. It is not read.
    Coded,
}

/// Types whose bodies are what they say; others are read. With any of these a service reads no form.
const TYPES: [&str; 12] = [
    "json",
    "xml",
    "cbor",
    "csv",
    "html",
    "octet-stream",
    "pdf",
    "zip",
    "gzip",
    "x-gzip",
    "x-tar",
    "eventstream",
];
/// The same by how they begin: those of AWS, of git, and of vendors.
const BEGINNINGS: [&str; 3] = ["x-amz-", "x-git-", "vnd."];
/// The same by how they end.
const ENDINGS: [&str; 4] = ["+json", "+xml", "+cbor", "+zip"];
/// The same by their first word.
const MEDIA: [&str; 5] = ["image", "audio", "video", "font", "model"];

/// Characters of which each that counts is its own byte.
const CHARSETS: [&str; 5] = ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"];

/// What the body of a request with this method and these fields may be; `None`: it is not read as parameters.
pub fn form<'f>(method: &str, fields: impl Iterator<Item = (&'f str, &'f [u8])>) -> Option<Form> {
    let (mut types, mut is_coded): (Vec<&[u8]>, bool) = (Vec::new(), false);
    for (name, value) in fields {
        match carrier(name) {
            Some(Carrier::ContentType) => types.push(value),
            _ if fold(name) == "contentencoding" => {
                is_coded |= !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
            }
            _ => {}
        }
    }
    let form = match &*types {
        all if all.iter().any(|value| holds(value, b"urlencoded")) => Form::Named,
        _ if method == "PUT" => return None,
        [one] if is_named(one) => return None,
        _ => Form::Unnamed,
    };
    Some(if is_coded || types.iter().any(|value| has_other_characters(value)) { Form::Coded } else { form })
}

/// Whether a body of this type is what it says.
fn is_named(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let media_type =
        value.split(';').next().unwrap_or_default().trim_matches([' ', '\t']).to_ascii_lowercase();
    let Some((main, sub)) = media_type.split_once('/') else { return false };
    let is_word = |word: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+' | b'_');
        !word.is_empty() && word.bytes().all(plain)
    };
    is_word(main)
        && is_word(sub)
        && (MEDIA.contains(&main)
            || TYPES.contains(&sub)
            || BEGINNINGS.iter().any(|start| sub.starts_with(start))
            || ENDINGS.iter().any(|end| sub.ends_with(end)))
}

/// Whether a type says that its characters are others than those that egressd reads.
fn has_other_characters(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    text.match_indices("charset").any(|(at, word)| {
        let rest = text.get(at + word.len()..).unwrap_or_default();
        let named = rest.trim_start_matches([' ', '\t', '=', '"', '\'']);
        let end = named.find([';', '"', '\'', ' ', '\t', ',']).unwrap_or(named.len());
        !CHARSETS.contains(&named.get(..end).unwrap_or_default())
    })
}

/// Whether a body of this type has parts.
pub(super) fn has_parts(value: &[u8]) -> bool {
    holds(value, b"multipart") || holds(value, b"form-data")
}

fn holds(value: &[u8], word: &[u8]) -> bool {
    value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// The search for credentials in a body, which is there whole.
#[derive(Debug)]
pub struct FormCheck<'b> {
    rest: &'b [u8],
    form: Form,
}

impl<'b> FormCheck<'b> {
    /// Nothing was looked at yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(body: &'b [u8], form: Form) -> Result<Self, CredentialsError> {
        let fields = body.iter().filter(|byte| **byte == b';' || separates(**byte, form)).count();
        if body.len() > MAX_FORM || fields >= MAX_FIELDS || form == Form::Coded {
            return Err(too_long(form));
        }
        if form == Form::Named && std::str::from_utf8(body).is_err() {
            return Err(CredentialsError::Form);
        }
        Ok(FormCheck { rest: body, form })
    }

    /// Looks at some fields more. `true`: there are no credentials in it.
    ///
    /// # Errors
    /// It has some, or cannot be read.
    pub fn step(&mut self) -> Result<bool, CredentialsError> {
        let least = self.rest.len().saturating_sub(STEP_BYTES);
        for _ in 0..STEP_FIELDS {
            if self.rest.len() <= least {
                break;
            }
            let end = self.rest.iter().position(|byte| separates(*byte, self.form));
            let (field, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest.get(1..).unwrap_or_default();
            self.look(field)?;
        }
        Ok(self.rest.is_empty())
    }

    fn look(&self, field: &[u8]) -> Result<(), CredentialsError> {
        self.look_at_name(field)?;
        // Some servers also separate at `;`.
        field.split(|byte| *byte == b';').skip(1).try_for_each(|hidden| self.look_at_name(hidden))
    }

    fn look_at_name(&self, field: &[u8]) -> Result<(), CredentialsError> {
        let name = field.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let is_named = self.form == Form::Named;
        let is_one = match name.len() > MAX_NAME {
            // Encoded blanks may be trimmed.
            true => is_named || name.contains(&b'%') || name.contains(&b'+'),
            false => query::is_credential(&String::from_utf8_lossy(name), is_named),
        };
        if is_one { Err(CredentialsError::Form) } else { Ok(()) }
    }
}

/// Whether fields are separated there. Of text/plain each line is a field.
fn separates(byte: u8, form: Form) -> bool {
    byte == b'&' || form != Form::Named && matches!(byte, b'\n' | b'\r')
}

/// Why a body is refused that is not read.
pub fn too_long(form: Form) -> CredentialsError {
    match form {
        Form::Named => CredentialsError::LongForm,
        Form::Unnamed => CredentialsError::LongUnnamed,
        Form::Coded => CredentialsError::CodedForm,
    }
}

/// Whether a body has no credentials in it.
///
/// # Errors
/// It has some, or cannot be read.
pub fn check_form(body: &[u8], form: Form) -> Result<(), CredentialsError> {
    let mut check = FormCheck::new(body, form)?;
    while !check.step()? {}
    Ok(())
}
