//! What a body says that decides what its request is, read before any of it goes on: that of a request to Git, and a form, which may
//! carry credentials of AWS.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::beginning::{Beginning, Reached, Reading, broken};
use super::steps::{self, Whose, too_long};
use crate::rules::git::NEGOTIATION_LIMIT;
use crate::rules::{Recognised, Requests};
use crate::session::http::forward::{Connection, Finish};
use crate::session::http::git_fields as fields;
use crate::telemetry::record::{Negotiated, PushOptions};
use crate::transport::held::{Kind, Lease};
use crate::transport::stream::Transport;
use crate::wire::aws::{self, Form};
use crate::wire::git::{
    Capabilities, FetchKind, FetchReader, FetchRequest, ListError, MAX_LIST, Progress, PushReader, lfs,
};
use crate::wire::head::{Framing, Head};
use crate::words::aws::CredentialsError;
use crate::words::git::{Asks, Content, GitAsk, Lfs, Operation, RefChange, Service};
use crate::words::outcome::Ending;

/// The interim answer to a client that waits for one.
pub(in crate::session::http) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a body says.
#[derive(Debug)]
pub(in crate::session::http) struct Ahead {
    reads: Reads,
    said: Said,
    /// Of a form: why its credentials are refused.
    form: Option<CredentialsError>,
    /// Why it is not what git's client writes. Quotes nothing from it.
    wrong: Option<Box<str>>,
    /// How many bytes of the client's buffer it takes, where it was read whole.
    wire: usize,
    lease: Lease,
}

/// What a body is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::session::http) enum Reads {
    /// What is asked of Git.
    Git(Asks),
    /// Parameters of AWS.
    Form(Form),
}

#[derive(Debug)]
enum Said {
    /// The list of a push; as far as it could be read.
    Push { capabilities: Capabilities, changes: Arc<[RefChange]>, options: PushOptions },
    /// A request to read, which is held.
    Fetch { told: FetchRequest, body: Vec<u8>, kind: FetchKind, inflated: bool },
    /// A batch of large files, and it in a form that says nothing of the client, if it has one.
    Batch { operation: Operation, fixed: Option<Vec<u8>> },
    /// Nothing that could be read.
    Nothing,
}

/// What of a request is decided by its body, if the entries ask for it.
pub(in crate::session::http) fn reads(
    recognised: &Recognised,
    head: &Head,
    requests: &Requests,
) -> Option<Reads> {
    let of_git = decides(recognised).filter(|_| requests.asks_git()).map(Reads::Git);
    // What is refused by its head needs no reading.
    let lends = || requests.entries().iter().any(|entry| entry.aws.is_some() && entry.credentials.is_some());
    let asks = requests.asks_aws() && (recognised.aws.is_ok() || lends());
    of_git.or_else(|| form(head).filter(|_| asks).map(Reads::Form))
}

/// The same of a request that was recognised as one to Git.
pub(in crate::session::http) fn decides(recognised: &Recognised) -> Option<Asks> {
    let asks = recognised.git.as_ref().ok()?.request.asks;
    matches!(asks, Asks::Rpc(_) | Asks::Lfs(Lfs::Batch)).then_some(asks)
}

/// What the body is to a service that looks for parameters in it.
pub(in crate::session::http) fn form(head: &Head) -> Option<Form> {
    if !head.framing.may_have_content() {
        return None;
    }
    let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    aws::form(head.method.as_str(), fields)
}

/// The longest body of a fetch that may be allowed by one of the entries.
pub(in crate::session::http) fn negotiation_limit(requests: &Requests) -> usize {
    let limits =
        requests.entries().iter().filter_map(|entry| entry.git.as_ref()).map(|rule| rule.negotiation_limit);
    usize::try_from(limits.max().unwrap_or(NEGOTIATION_LIMIT)).unwrap_or(usize::MAX)
}

/// Reads what is needed of the body. The client's bytes stay in their buffer. `most`: of a request to read, inflated.
pub(in crate::session::http) async fn read<S: Transport>(
    connection: &mut Connection<'_, S>,
    head: &Head,
    reads: Reads,
    (most, patience): (usize, Duration),
    whose: Whose<'_>,
) -> Result<Ahead, Finish> {
    let Connection { stream, buffer, lease, .. } = connection;
    if head.expect_continue && buffer.is_empty() {
        // The client gets it from egressd: the target would first have to see a request that is not judged yet.
        let telling = async {
            stream.write_all(CONTINUE).await?;
            stream.flush().await
        };
        match timeout(patience, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(broken(Ending::ClientReset)),
            Err(_elapsed) => return Err(broken(Ending::IdleTimeout)),
        }
    }
    let beginning = Beginning::new(head.framing, lease.holder());
    let mut from = Reading { stream: *stream, buffer, lease };
    match reads {
        Reads::Git(Asks::Rpc(Service::ReceivePack)) => push(beginning, &mut from, patience).await,
        _ => whole(beginning, &mut from, (head, reads), (most, patience), whose).await,
    }
}

async fn push<S: Transport>(
    mut beginning: Beginning,
    from: &mut Reading<'_, S>,
    patience: Duration,
) -> Result<Ahead, Finish> {
    let mut reader = PushReader::new();
    let mut read = Ok(Progress::NeedMore);
    // What is made of a line takes less than twice as much.
    let mut lease = Lease::new(from.lease.holder(), Kind::Body);
    let reached = beginning
        .read(from, MAX_LIST, patience, |list| {
            lease.set(2 * list.len().min(MAX_LIST));
            read = reader.read(list);
            read != Ok(Progress::NeedMore)
        })
        .await?;
    let list = reader.into_list();
    let mut wrong = match (read, reached) {
        (Err(error), _) => Some(error.to_string()),
        (Ok(Progress::Done), _) => None,
        (Ok(Progress::NeedMore), Reached::TooLong) => Some(ListError::TooLong.to_string()),
        (Ok(Progress::NeedMore), _) => Some("a body that ends before its list of commands does".to_owned()),
    };
    if wrong.is_none() && list.changes.is_empty() {
        // The probe is these four bytes and no more.
        let end = beginning.read(from, list.length, patience, |body| body.len() > list.length).await?;
        if end != Reached::End || list.shallow > 0 {
            wrong = Some("a push that changes nothing and goes on after its list".to_owned());
        }
    }
    drop(beginning);
    // Of these, an answer needs nothing.
    let capabilities = Capabilities { agent: None, session_id: None, ..list.capabilities };
    let changes: Arc<[RefChange]> = list.changes.into();
    let names: usize = changes.iter().map(|change| change.name.as_str().len() + 16).sum();
    lease.set(size_of_val(&*changes) + names);
    let options = PushOptions {
        count: list.options.len(),
        bytes: list.options.iter().map(|option| option.len()).sum(),
    };
    let (said, wrong) = (Said::Push { capabilities, changes, options }, wrong.map(Into::into));
    let reads = Reads::Git(Asks::Rpc(Service::ReceivePack));
    Ok(Ahead { reads, said, form: None, wrong, wire: 0, lease })
}

async fn whole<S: Transport>(
    mut beginning: Beginning,
    from: &mut Reading<'_, S>,
    (head, reads): (&Head, Reads),
    (most, patience): (usize, Duration),
    whose: Whose<'_>,
) -> Result<Ahead, Finish> {
    let most = match reads {
        Reads::Git(Asks::Lfs(Lfs::Batch)) => lfs::MAX_BATCH,
        Reads::Git(_) => most,
        Reads::Form(_) => aws::MAX_FORM,
    };
    let known = reads == Reads::Form(Form::Coded)
        || matches!(head.framing, Framing::Length(length) if length > most as u64);
    let reached = if known {
        // Not one byte more than what is there is held.
        Reached::TooLong
    } else {
        beginning.read(from, most, patience, |_| false).await?
    };
    let wire = beginning.wire();
    let (body, mut lease) = beginning.into_parts();
    let mut form = None;
    let said = match (reads, reached) {
        (Reads::Form(kind), Reached::End) => {
            let _turn = if steps::is_long(&body) { Some(whose.turn().await) } else { None };
            form = steps::check(&body, kind).await.err();
            Ok(Said::Nothing)
        }
        (Reads::Form(kind), Reached::TooLong | Reached::Enough) => {
            form = Some(aws::too_long(kind));
            Ok(Said::Nothing)
        }
        (Reads::Git(asks), Reached::End) => said(body, (asks, &head.headers), most, &mut lease, whose).await,
        (Reads::Git(Asks::Lfs(Lfs::Batch)), Reached::TooLong | Reached::Enough) => {
            Err(lfs::BatchError::TooLong.to_string())
        }
        (Reads::Git(_), Reached::TooLong | Reached::Enough) => Err(too_long(most)),
    };
    let (said, wrong) = match said {
        Ok(said) => (said, None),
        Err(wrong) => (Said::Nothing, Some(wrong.into())),
    };
    if matches!(said, Said::Nothing) {
        lease.set(0);
    }
    Ok(Ahead { reads, said, form, wrong, wire, lease })
}

/// Reads a body that is there whole.
async fn said(
    body: Vec<u8>,
    (asks, headers): (Asks, &HeaderMap),
    most: usize,
    lease: &mut Lease,
    whose: Whose<'_>,
) -> Result<Said, String> {
    if asks == Asks::Lfs(Lfs::Batch) {
        return lfs::read_batch(&body)
            .map(|batch| {
                let fixed = lfs::fixed(&body);
                lease.set(fixed.as_ref().map_or(0, Vec::capacity));
                Said::Batch { operation: batch.operation, fixed }
            })
            .map_err(|error| error.to_string());
    }
    let version = fields::version(headers)?;
    let (kind, inflated) = match asks {
        Asks::Rpc(Service::UploadArchive) => (FetchKind::Archive, false),
        _ => (FetchKind::Pack(version), fields::compressed(asks, headers)?),
    };
    let _turn = if inflated || steps::is_long(&body) { Some(whose.turn().await) } else { None };
    let body = if inflated { steps::inflated(body, most, lease).await? } else { body };
    lease.set(body.capacity());
    let (told, _) = steps::read(FetchReader::new(&body, kind)).await?;
    Ok(Said::Fetch { told, body, kind, inflated })
}

/// Why a batch does not go on where only reading is allowed.
const NO_DOWNLOAD: &str = "a batch with members that no download needs: git-lfs writes operation, objects, transfers, ref and hash_algo";

/// Why a request does not go on whose body would be written anew.
const SIGNED: &str = "the request's signature covers its body, which is not sent on as it is: send it without a signature of AWS \
                      in `Authorization`, as git does";

/// How a body goes on.
#[derive(Clone, Copy, Debug)]
pub(in crate::session::http) struct ContentTerms {
    /// In a form that says nothing of the client.
    pub(in crate::session::http) anew: bool,
    /// What the entry allows.
    pub(in crate::session::http) most: u64,
    /// The client's signature covers it: it goes on as it came, or not at all.
    pub(in crate::session::http) signed: bool,
}

impl Ahead {
    /// What was recognised, with what the body says.
    pub(in crate::session::http) fn recognised(&self, by_head: &Recognised) -> Recognised {
        let Recognised { git, aws, judged } = by_head.clone();
        if let Reads::Form(_) = self.reads {
            return Recognised { git, aws: self.form.map_or(aws, Err), judged };
        }
        let git = match &self.wrong {
            Some(wrong) => Err(wrong.clone()),
            None => git.map(|ask| GitAsk { content: self.content(), ..ask }),
        };
        Recognised { git, aws, judged }
    }

    fn content(&self) -> Content {
        match &self.said {
            Said::Push { changes, .. } if changes.is_empty() => Content::Probe,
            Said::Push { changes, .. } => Content::Changes(Arc::clone(changes)),
            Said::Fetch { told, .. } => told.operation.map_or(Content::Probe, Content::Does),
            Said::Batch { operation, .. } => Content::Does(*operation),
            Said::Nothing => Content::Unread,
        }
    }

    /// Whether it is the probe, which asks for nothing.
    pub(in crate::session::http) fn is_probe(&self) -> bool {
        self.wrong.is_none() && self.content() == Content::Probe
    }

    /// What it asks of Git by its head.
    pub(in crate::session::http) fn asks(&self) -> Option<Asks> {
        match self.reads {
            Reads::Git(asks) => Some(asks),
            Reads::Form(_) => None,
        }
    }

    /// The changes of a push, as far as they could be read.
    pub(in crate::session::http) fn changes(&self) -> Option<&Arc<[RefChange]>> {
        match &self.said {
            Said::Push { changes, .. } => Some(changes),
            Said::Fetch { .. } | Said::Batch { .. } | Said::Nothing => None,
        }
    }

    /// What the client of a push reads.
    pub(in crate::session::http) fn capabilities(&self) -> Option<&Capabilities> {
        match &self.said {
            Said::Push { capabilities, .. } => Some(capabilities),
            Said::Fetch { .. } | Said::Batch { .. } | Said::Nothing => None,
        }
    }

    /// How much the options of a push say to the server.
    pub(in crate::session::http) fn options(&self) -> Option<PushOptions> {
        match &self.said {
            Said::Push { options, .. } => Some(*options),
            Said::Fetch { .. } | Said::Batch { .. } | Said::Nothing => None,
        }
    }

    /// What a request to read said.
    pub(in crate::session::http) fn negotiated(&self) -> Option<Negotiated> {
        match &self.said {
            Said::Fetch { told, body, .. } => {
                Some(Negotiated { wants: told.wants, haves: told.haves, bytes: body.len() })
            }
            Said::Push { .. } | Said::Batch { .. } | Said::Nothing => None,
        }
    }

    /// What was held of the body is needed no more: it goes on from the client's bytes, or was taken. The changes of a push are kept
    /// as long as it is under way, for its record and for a reload.
    pub(in crate::session::http) fn forget(&mut self) {
        match &mut self.said {
            Said::Fetch { body, .. } => *body = Vec::new(),
            Said::Batch { fixed, .. } => *fixed = None,
            Said::Push { .. } | Said::Nothing => return,
        }
        self.lease.set(0);
    }

    /// The body that goes on in place of the client's, which is taken out of `buffer`; `None` where the client's own goes on as it
    /// comes.
    ///
    /// # Errors
    /// Why it cannot go on. Nothing was taken then.
    pub(in crate::session::http) async fn take_content(
        &mut self,
        buffer: &mut BytesMut,
        of_buffer: &mut Lease,
        terms: ContentTerms,
        whose: Whose<'_>,
    ) -> Result<Option<(Bytes, usize)>, String> {
        let ContentTerms { anew, most, signed } = terms;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let content = match &mut self.said {
            Said::Fetch { body, .. } if body.len() > most => return Err(too_long(most)),
            Said::Fetch { inflated: true, .. } if signed => return Err(SIGNED.to_owned()),
            Said::Fetch { body, kind, .. } if anew => {
                self.lease.set(2 * body.capacity());
                let _turn = if steps::is_long(body) { Some(whose.turn().await) } else { None };
                let (_, fixed) = steps::read(FetchReader::fixing(body, *kind)).await?;
                if signed && fixed != *body {
                    return Err(SIGNED.to_owned());
                }
                *body = Vec::new();
                fixed
            }
            Said::Fetch { body, .. } => std::mem::take(body),
            Said::Batch { operation: Operation::Fetch, .. } if anew && signed => {
                return Err(SIGNED.to_owned());
            }
            Said::Batch { operation: Operation::Fetch, fixed } if anew => {
                let content = fixed.take().ok_or(NO_DOWNLOAD)?;
                if content.len() > most {
                    return Err(too_long(most));
                }
                content
            }
            Said::Batch { .. } | Said::Push { .. } | Said::Nothing => return Ok(None),
        };
        let wire = self.wire.min(buffer.len());
        buffer.advance(wire);
        *buffer = BytesMut::from(&buffer[..]);
        of_buffer.set(buffer.capacity());
        let lease = Lease::of(of_buffer.holder(), Kind::Body, content.capacity());
        self.lease.set(0);
        Ok(Some((Bytes::from_owner(Held { bytes: content, _lease: lease }), wire)))
    }
}

/// A body that is held until the target has it.
struct Held {
    bytes: Vec<u8>,
    _lease: Lease,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
