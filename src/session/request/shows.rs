//! What the client of a request shows of a refusal: its one line, in the form that reaches a person.

use serde_json::json;
use uuid::Uuid;

use crate::words::outcome::Reason;

/// What the client of a refused request shows of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Shows {
    /// Text, if anything.
    #[default]
    Text,
    /// The member `message` of an object of JSON: git-lfs shows nothing else of an answer (git-lfs, `docs/api`, "Response Errors").
    LfsMessage,
}

/// The media type that git-lfs asks for and answers are to have.
const LFS: &str = "application/vnd.git-lfs+json";

impl Shows {
    /// By the values of `Accept`: of git-lfs that type stands there alone, or with a parameter.
    pub fn by_accept<'v>(values: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut types = values.flat_map(|value| value.split(|byte| *byte == b','));
        let is_lfs = types.any(|text| {
            let name = text.split(|byte| *byte == b';').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(LFS.as_bytes())
        });
        if is_lfs { Shows::LfsMessage } else { Shows::Text }
    }

    /// The media type of a refusal, and its body. `advice` is one line.
    pub(crate) fn body(self, reason: Reason, advice: &str, id: Uuid) -> (&'static str, String) {
        match self {
            Shows::Text => {
                ("text/plain; charset=utf-8", format!("egressd: {reason}: {advice} (request {id})\n"))
            }
            Shows::LfsMessage => {
                let message = format!("egressd: {reason}: {advice}");
                (LFS, json!({"message": message, "request_id": id.to_string()}).to_string() + "\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_lfs_is_told_by_the_type_that_it_asks_for() {
        for (values, want) in [
            (&["application/vnd.git-lfs+json"][..], Shows::LfsMessage),
            (&["Application/Vnd.Git-LFS+JSON; charset=utf-8"], Shows::LfsMessage),
            (&["text/html", "*/*, application/vnd.git-lfs+json"], Shows::LfsMessage),
            (&["*/*"], Shows::Text),
            (&["application/json", "application/vnd.git-lfs+jsonx"], Shows::Text),
            (&[], Shows::Text),
        ] {
            let told = Shows::by_accept(values.iter().map(|value| value.as_bytes()));
            assert_eq!(told, want, "{values:?}");
        }
        let (media_type, body) =
            Shows::LfsMessage.body(Reason::GitNotAllowed, "write `push` under \"git\"", Uuid::nil());
        assert_eq!(media_type, LFS);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["message"], "egressd: git_not_allowed: write `push` under \"git\"");
        assert_eq!(read["request_id"], Uuid::nil().to_string());
    }
}
