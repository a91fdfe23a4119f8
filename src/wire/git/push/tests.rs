use super::super::test_bodies::{NEW, OLD, ZERO, lines, push};
use super::*;
use crate::words::git::Change;

fn read(body: &[u8]) -> Result<PushList, ListError> {
    let mut reader = PushReader::new();
    match reader.read(body)? {
        Progress::Done => Ok(reader.into_list()),
        Progress::NeedMore => panic!("more is needed of {:?}", String::from_utf8_lossy(body)),
    }
}

fn list(texts: &[&str]) -> Result<PushList, ListError> {
    read(&[&lines(texts)[..], b"0000PACK"].concat())
}

#[test]
fn a_list_is_what_git_writes() {
    let create = format!(
        "{ZERO} {NEW} refs/tags/v1\0 report-status-v2 side-band-64k object-format=sha1 agent=git/2.39.5"
    );
    let update = format!("{OLD} {NEW} refs/heads/main");
    let delete = format!("{OLD} {ZERO} refs/heads/old\n");
    let shallow = format!("shallow {OLD}");
    let read = list(&[&shallow, &create, &update, &delete]).unwrap();
    let told: Vec<_> =
        read.changes.iter().map(|c| (c.name.as_str(), c.change(), c.old(), c.new_id())).collect();
    let id = |hex: &str| ObjectId::read(hex.as_bytes(), ObjectFormat::Sha1).unwrap();
    let want = [
        ("refs/tags/v1", Change::Create, None, id(NEW)),
        ("refs/heads/main", Change::Update, id(OLD), id(NEW)),
        ("refs/heads/old", Change::Delete, id(OLD), None),
    ];
    assert_eq!(told, want);
    assert_eq!((read.shallow, read.after(), read.options.len()), (1, After::Pack, 0));
    assert!(read.capabilities.report_status);
    assert_eq!(read.length, lines(&[&shallow, &create, &update, &delete]).len() + 4);

    // The probe; a client that has nothing to say but its shallow commits.
    assert_eq!(super::PushReader::new().read(b"0000"), Ok(Progress::Done));
    assert_eq!(list(&[]).unwrap().after(), After::End);
    assert_eq!(list(&[&shallow]).unwrap().after(), After::End);
    assert_eq!(list(&[&delete]).unwrap().after(), After::Ignored);
    // SHA-256.
    let long = |id: &str| format!("{id}{}", &id[..24]);
    let sha256 = format!("{} {} refs/heads/a\0object-format=sha256", long(ZERO), long(NEW));
    assert_eq!(list(&[&sha256]).unwrap().changes[0].change(), Change::Create);
    assert!(list(&[&format!("shallow {}", long(OLD)), &sha256]).is_ok());
}

#[test]
fn options_are_a_second_list() {
    let command = format!("{OLD} {NEW} refs/heads/main\0push-options");
    let body = [&lines(&[&command])[..], b"0000", &lines(&["ci.skip", "a=b c"]), b"0000PACK"].concat();
    let read = read(&body).unwrap();
    assert_eq!(read.options.iter().map(|o| &**o).collect::<Vec<_>>(), ["ci.skip", "a=b c"]);
    assert_eq!(read.length, body.len() - 4);
    let options = |count| {
        let body = [&lines(&[&command])[..], b"0000", &lines(&["o"]).repeat(count), b"0000"].concat();
        super::PushReader::new().read(&body)
    };
    assert_eq!(options(MAX_OPTIONS), Ok(Progress::Done));
    assert_eq!(options(MAX_OPTIONS + 1), Err(ListError::TooManyOptions));
    let of_bytes = |last: usize| {
        let texts = ["o".repeat(MAX_OPTION_BYTES / 2), "o".repeat(last)];
        let body = [&lines(&[&command])[..], b"0000", &lines(&[&texts[0], &texts[1]]), b"0000"].concat();
        super::PushReader::new().read(&body)
    };
    assert_eq!(of_bytes(MAX_OPTION_BYTES / 2), Ok(Progress::Done));
    assert_eq!(of_bytes(MAX_OPTION_BYTES / 2 + 1), Err(ListError::TooManyOptions));
    // They are announced, and there may be none; without commands there is no second list.
    assert!(list(&[&format!("{OLD} {NEW} refs/heads/main")]).unwrap().options.is_empty());
    for bad in ["", "\n", "a\0b", "a\nb\n", "\u{1b}[2J"] {
        let body = [&lines(&[&command])[..], b"0000", &lines(&[bad]), b"0000"].concat();
        assert_eq!(super::PushReader::new().read(&body), Err(ListError::Option), "{bad:?}");
    }
    for end in ["0001", "0002"] {
        let body = [&lines(&[&command])[..], b"0000", end.as_bytes()].concat();
        assert_eq!(super::PushReader::new().read(&body), Err(ListError::NotFlush), "{end}");
    }
}

#[test]
fn what_git_would_read_in_two_ways_is_refused() {
    let ok = format!("{OLD} {NEW} refs/heads/main");
    let caps = format!("{OLD} {NEW} refs/heads/main\0report-status");
    let other = format!("{OLD} {NEW} refs/heads/other");
    let sha256 = "1".repeat(64);
    let rows: &[(&[&str], ListError)] = &[
        (&[&ok, &ok], ListError::Twice),
        (&[&ok, &other, &format!("{OLD} {ZERO} refs/heads/main")], ListError::Twice),
        (&[&ok, &format!("{other}\0atomic")], ListError::Nul),
        (&[&format!("{caps}\0atomic")], ListError::Nul),
        (&[&format!("{}\0", &ok), &format!("{other}\0")], ListError::Nul),
        (&[&ok.replace(OLD, &"ABCD".repeat(10))], ListError::Command),
        (&[&ok.replace(' ', "  ")], ListError::Command),
        (&[&ok.replace(' ', "\t")], ListError::Command),
        (&[&ok[1..]], ListError::Command),
        (&[&format!(" {ok}")], ListError::Command),
        (&[""], ListError::Command),
        (&["\n"], ListError::Command),
        (&[&format!("{OLD} {NEW}")], ListError::Command),
        (
            &[&format!("{OLD} {NEW} ")],
            ListError::Ref(RefNameError("a name that does not begin with `refs/`")),
        ),
        (
            &[&format!("{OLD} {NEW} HEAD")],
            ListError::Ref(RefNameError("a name that does not begin with `refs/`")),
        ),
        (&[&format!("{ok} x")], ListError::Ref(RefNameError("a space or a control character"))),
        (&[&format!("{ok}\n\n")], ListError::Ref(RefNameError("a space or a control character"))),
        (&[&format!("{ok}/../x")], ListError::Ref(RefNameError("a part that begins with `.`"))),
        (&[&format!("{ZERO} {ZERO} refs/heads/a")], ListError::NoChange),
        (&[&format!("{sha256} {sha256} refs/heads/a")], ListError::Command),
        (&[&format!("{ok}\0object-format=sha256")], ListError::Command),
        (&[&ok, &format!("shallow {OLD}")], ListError::Shallow),
        (&["shallow "], ListError::Shallow),
        (&[&format!("shallow {ZERO}")], ListError::Shallow),
        (&[&format!("shallow {OLD} ")], ListError::Shallow),
        (&[&format!("shallow {OLD}\0atomic")], ListError::Shallow),
        // Git reads the first 40 digits of it.
        (&[&format!("shallow {sha256}"), &ok], ListError::Shallow),
        (&[&format!("shallow {OLD}"), &format!("shallow {sha256}")], ListError::Shallow),
        (&["push-cert\0report-status"], ListError::Certificate),
        (&["push-cert"], ListError::Certificate),
        (&[&ok, "push-cert\n"], ListError::Certificate),
        (
            &[&format!("{ok}\0push-cert=n")],
            ListError::Capabilities("a push certificate, which is not supported"),
        ),
        (&[&format!("{ok}\0a\tb")], ListError::Capabilities("capabilities that are not printable ASCII")),
    ];
    for (texts, want) in rows {
        assert_eq!(list(texts), Err(*want), "{texts:?}");
    }
    let command = lines(&[&ok]);
    for (end, want) in [
        (&b"0001"[..], ListError::NotFlush),
        (b"0002", ListError::NotFlush),
        (b"0003", ListError::Packet(PacketError::Three)),
        (b"PACK", ListError::Packet(PacketError::Length)),
        (b"fff1", ListError::Packet(PacketError::TooLong)),
    ] {
        assert_eq!(read(&[&command, end].concat()), Err(want), "{}", String::from_utf8_lossy(end));
    }
}

#[test]
fn a_list_has_a_bound() {
    let names: Vec<String> = (0..=MAX_CHANGES).map(|n| format!("refs/heads/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(read(&push("atomic", &names[1..])).unwrap().changes.len(), MAX_CHANGES);
    assert_eq!(read(&push("atomic", &names)), Err(ListError::TooMany));
    // The bound holds to the byte, and also where the rest of the last line has not come.
    let shallow = lines(&[format!("shallow {OLD}")]);
    let mut body = shallow.repeat(MAX_LIST / shallow.len());
    assert_eq!(PushReader::new().read(&body), Ok(Progress::NeedMore));
    body.extend_from_slice(&shallow);
    assert_eq!(PushReader::new().read(&body), Err(ListError::TooLong));
    let at_most = [&shallow.repeat(MAX_LIST / shallow.len() - 1)[..], b"fff0"].concat();
    let mut reader = PushReader::new();
    assert_eq!(reader.read(&at_most), Ok(Progress::NeedMore));
    assert_eq!(reader.read(&[&at_most[..], &[b'x'; 100]].concat()), Err(ListError::TooLong));
}

/// The verdict does not depend on how the bytes came, and no byte is read twice.
#[test]
fn a_list_is_read_the_same_byte_by_byte() {
    let command = format!("{OLD} {NEW} refs/heads/main\0push-options");
    let good =
        [&lines(&[format!("shallow {OLD}"), command.clone()])[..], b"0000", &lines(&["o"]), b"0000PACK"]
            .concat();
    let twice = [&lines(&[&command, &command.replace("main", "x"), &command])[..], b"0000"].concat();
    for body in [good, twice] {
        let mut whole = PushReader::new();
        let verdict = whole.read(&body);
        let (mut reader, mut last) = (PushReader::new(), Ok(Progress::NeedMore));
        for end in 0..=body.len() {
            last = reader.read(&body[..end]);
            if last != Ok(Progress::NeedMore) {
                break;
            }
        }
        assert_eq!(last, verdict);
        assert_eq!(reader.list(), whole.list());
    }
}
