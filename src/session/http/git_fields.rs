//! The fields of a request to Git: those that it may have, and those that go on.
//!
//! Only a fixed list goes on: a server acts on others, and each is a place to write. Where nothing but a fetch is allowed, those
//! of the list are written anew, so that the program and its version say nothing of the client.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    EXPECT, HOST, PRAGMA, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::git::{FIXED_AGENT, ProtocolVersion};
use crate::words::git::{Asks, Lfs, Service};

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// What goes on, as the client or the rule wrote it. `Host` and `Content-Length` are written anew in any request, and `Expect`
/// is left where a body is not read ahead.
const KEPT: [HeaderName; 11] = [
    ACCEPT,
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    GIT_PROTOCOL,
    HOST,
    PRAGMA,
    USER_AGENT,
];

/// Of git-lfs.
const LFS_JSON: HeaderValue = HeaderValue::from_static("application/vnd.git-lfs+json");

/// How the fields of one request to Git go on.
#[derive(Clone, Copy, Debug)]
pub(in crate::session::http) struct FixedFields {
    asks: Asks,
    /// They say nothing of the client.
    anew: bool,
}

/// Whether the fields are those of git's client, as far as they decide how a body is read.
///
/// # Errors
/// What is wrong. Quotes nothing from them.
pub(in crate::session::http) fn check(asks: Asks, headers: &HeaderMap) -> Result<(), &'static str> {
    version(headers)?;
    compressed(asks, headers)?;
    let mut types = headers.get_all(CONTENT_TYPE).into_iter();
    let one = match (types.next(), types.next()) {
        (Some(one), None) => Some(one.as_bytes()),
        _ => None,
    };
    let fits = match asks {
        Asks::Rpc(service) => one == Some(service.request_type().as_bytes()),
        // Without it, some servers read a form.
        Asks::Lfs(Lfs::Batch) => one.is_some_and(|one| {
            let rest = one.strip_prefix(LFS_JSON.as_bytes());
            matches!(rest, Some(b"" | b"; charset=utf-8"))
        }),
        Asks::Discovery(_) | Asks::Lfs(Lfs::Locks | Lfs::Download | Lfs::Upload) => true,
    };
    if fits { Ok(()) } else { Err("a Content-Type other than that of git's client for this request") }
}

/// Which version of the protocol the body is of.
pub(super) fn version(headers: &HeaderMap) -> Result<ProtocolVersion, &'static str> {
    let mut values = headers.get_all(GIT_PROTOCOL).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(ProtocolVersion::V0),
        (Some(value), None) => ProtocolVersion::read(value.as_bytes()),
        (Some(_), Some(_)) => Err("more than one `Git-Protocol`"),
    }
}

/// Whether the body is compressed. Git's client does so with a fetch alone.
pub(super) fn compressed(asks: Asks, headers: &HeaderMap) -> Result<bool, &'static str> {
    let mut codings = headers.get_all(CONTENT_ENCODING).into_iter();
    match (codings.next(), codings.next(), asks) {
        (None, ..) => Ok(false),
        (Some(coding), None, Asks::Rpc(Service::UploadPack)) if coding.as_bytes() == b"gzip" => Ok(true),
        _ => Err("a Content-Encoding that git's client does not use: `gzip`, of a fetch, and no other"),
    }
}

impl FixedFields {
    /// `anew`: where only reading is allowed.
    pub(in crate::session::http) fn new(asks: Asks, anew: bool) -> Self {
        FixedFields { asks, anew }
    }

    /// Whether a field with this name goes on.
    pub(in crate::session::http) fn keeps(self, name: &str) -> bool {
        KEPT.iter().any(|kept| kept.as_str() == name)
            // A download of a large file that broke off goes on where it was.
            || (self.asks == Asks::Lfs(Lfs::Download) && name == RANGE.as_str())
    }

    /// The fields that [`FixedFields::write`] would change.
    pub(in crate::session::http) fn changes(self, headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
        self.fixed(headers).into_iter().filter_map(|(name, value)| {
            let is_same = headers.get_all(&name).into_iter().eq(value.as_ref());
            (!is_same).then_some(name)
        })
    }

    /// Writes those that go on as they go, but for those that `stay` as they are.
    pub(in crate::session::http) fn write(self, headers: &mut HeaderMap, stay: impl Fn(&str) -> bool) {
        for (name, value) in self.fixed(headers) {
            if stay(name.as_str()) {
                continue;
            }
            headers.remove(&name);
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }

    /// Those that do not go on as the client wrote them, and how they do.
    fn fixed(self, headers: &HeaderMap) -> Vec<(HeaderName, Option<HeaderValue>)> {
        // It was read before, by the same function.
        let version = version(headers).ok().and_then(ProtocolVersion::field);
        let mut fixed = vec![(GIT_PROTOCOL, version.map(HeaderValue::from_static))];
        if !self.anew {
            return fixed;
        }
        let zipped = headers.get_all(ACCEPT_ENCODING).iter().any(|value| {
            value.as_bytes().split(|byte| *byte == b',').any(|coding| coding.trim_ascii() == b"gzip")
        });
        let range = headers.get(RANGE).filter(|range| is_range(range.as_bytes())).cloned();
        let (accept, content_type) = self.types();
        fixed.extend([
            (USER_AGENT, Some(HeaderValue::from_static(FIXED_AGENT))),
            (ACCEPT, Some(accept)),
            (CONTENT_TYPE, content_type.filter(|_| headers.contains_key(CONTENT_TYPE))),
            (ACCEPT_ENCODING, zipped.then_some(HeaderValue::from_static("gzip"))),
            (CACHE_CONTROL, None),
            (PRAGMA, headers.contains_key(PRAGMA).then_some(HeaderValue::from_static("no-cache"))),
            (RANGE, range),
        ]);
        fixed
    }

    /// `Accept` and `Content-Type`.
    fn types(self) -> (HeaderValue, Option<HeaderValue>) {
        match self.asks {
            Asks::Discovery(_) => (HeaderValue::from_static("*/*"), None),
            Asks::Rpc(service) => (
                HeaderValue::from_static(service.result_type()),
                Some(HeaderValue::from_static(service.request_type())),
            ),
            Asks::Lfs(Lfs::Batch | Lfs::Locks) => (LFS_JSON, Some(LFS_JSON)),
            Asks::Lfs(Lfs::Download | Lfs::Upload) => {
                (HeaderValue::from_static("*/*"), Some(HeaderValue::from_static("application/octet-stream")))
            }
        }
    }
}

/// `bytes=FROM-` or `bytes=FROM-TO`.
fn is_range(value: &[u8]) -> bool {
    let digits = |text: &[u8]| text.len() <= 20 && text.iter().all(u8::is_ascii_digit);
    let Some(range) = value.strip_prefix(b"bytes=") else { return false };
    let mut ends = range.splitn(2, |byte| *byte == b'-');
    matches!((ends.next(), ends.next()), (Some(from), Some(to)) if !from.is_empty() && digits(from) && digits(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_body_is_compressed_in_one_way_and_only_where_git_does() {
        let rpc = Asks::Rpc;
        let fetch = ("content-type", "application/x-git-upload-pack-request");
        let push = ("content-type", "application/x-git-receive-pack-request");
        type Row<'a> = (Asks, &'a [(&'static str, &'static str)], Option<bool>);
        let rows: &[Row<'_>] = &[
            (rpc(Service::UploadPack), &[fetch], Some(false)),
            (rpc(Service::UploadPack), &[fetch, ("content-encoding", "gzip")], Some(true)),
            (rpc(Service::UploadPack), &[fetch, ("content-encoding", "x-gzip")], None),
            (rpc(Service::UploadPack), &[fetch, ("content-encoding", "GZIP")], None),
            (rpc(Service::UploadPack), &[fetch, ("content-encoding", "deflate")], None),
            (rpc(Service::UploadPack), &[fetch, ("content-encoding", "identity")], None),
            (rpc(Service::UploadPack), &[fetch, ("content-encoding", "gzip, gzip")], None),
            (rpc(Service::ReceivePack), &[push, ("content-encoding", "gzip")], None),
            (rpc(Service::ReceivePack), &[push], Some(false)),
            (rpc(Service::UploadArchive), &[("content-encoding", "gzip")], None),
            (Asks::Lfs(Lfs::Batch), &[("content-encoding", "gzip")], None),
            (Asks::Lfs(Lfs::Batch), &[("content-type", "application/vnd.git-lfs+json")], Some(false)),
            (
                Asks::Lfs(Lfs::Batch),
                &[("content-type", "application/vnd.git-lfs+json; charset=utf-8")],
                Some(false),
            ),
            (Asks::Lfs(Lfs::Batch), &[], None),
            (Asks::Lfs(Lfs::Batch), &[("content-type", "application/x-www-form-urlencoded")], None),
            // By the path and by its type alike.
            (rpc(Service::ReceivePack), &[fetch], None),
            (rpc(Service::UploadPack), &[push], None),
            (rpc(Service::UploadPack), &[], None),
            (rpc(Service::UploadPack), &[fetch, ("git-protocol", "version=2")], Some(false)),
            (rpc(Service::UploadPack), &[fetch, ("git-protocol", "version=2:x=1")], None),
        ];
        for (asks, rows, want) in rows {
            let headers = headers(rows);
            let read = check(*asks, &headers).and_then(|()| compressed(*asks, &headers));
            assert_eq!(read.ok(), *want, "{asks:?} {rows:?}");
        }
        let mut twice = headers(&[fetch, ("content-encoding", "gzip")]);
        twice.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(compressed(rpc(Service::UploadPack), &twice).is_err());
        let mut twice = headers(&[("git-protocol", "version=2")]);
        twice.append(GIT_PROTOCOL, HeaderValue::from_static("version=2"));
        assert!(version(&twice).is_err());
    }

    #[test]
    fn what_goes_on_where_only_reading_is_allowed_says_nothing_of_the_client() {
        let mut sent = headers(&[
            ("user-agent", "git/secret"),
            ("accept", "secret/*"),
            ("accept-encoding", "secret, gzip"),
            ("pragma", "secret"),
            ("cache-control", "secret"),
            ("range", "secret"),
            ("content-type", "application/x-git-upload-pack-request"),
            ("git-protocol", "version=1:version=2"),
            ("authorization", "Basic eDp5"),
        ]);
        FixedFields::new(Asks::Rpc(Service::UploadPack), true).write(&mut sent, |_| false);
        let mut lines: Vec<String> =
            sent.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        let want = [
            "accept-encoding: gzip",
            "accept: application/x-git-upload-pack-result",
            "authorization: Basic eDp5",
            "content-type: application/x-git-upload-pack-request",
            "git-protocol: version=2",
            "pragma: no-cache",
            "user-agent: git/2.47.0-egressd",
        ];
        assert_eq!(lines, want);
        // Who may push says what they like.
        let mut sent = headers(&[("user-agent", "git/2.39"), ("git-protocol", "version=1")]);
        let push = FixedFields::new(Asks::Rpc(Service::ReceivePack), false);
        push.write(&mut sent, |_| false);
        assert_eq!(sent, headers(&[("user-agent", "git/2.39"), ("git-protocol", "version=1")]));
        for (name, kept) in [
            ("authorization", true),
            ("git-protocol", true),
            ("accept-language", false),
            ("x-anything", false),
            ("cookie", false),
            ("content-encoding", false),
            ("range", false),
        ] {
            assert_eq!(push.keeps(name), kept, "{name}");
        }
        assert!(FixedFields::new(Asks::Lfs(Lfs::Download), false).keeps("range"));
        for (range, is) in
            [("bytes=1-", true), ("bytes=1-2", true), ("bytes=-1", false), ("bytes=1-2,3-4", false)]
        {
            assert_eq!(is_range(range.as_bytes()), is, "{range}");
        }
    }
}
