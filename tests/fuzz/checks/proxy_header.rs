//! The PROXY protocol: a header means the same however it is split, no shorter prefix of it is a header, and another reader
//! sees the same client.

use egressd::wire::proxy_protocol::{MAX_HEADER, Parsed, parse};

/// The first bytes of a connection.
pub fn check(bytes: &[u8]) {
    match parse(bytes) {
        Parsed::NeedMore(least) => {
            assert!(least > bytes.len() && least <= MAX_HEADER, "waits for {least} at {}", bytes.len());
        }
        Parsed::Invalid(why) => assert!(!why.is_empty() && why.is_ascii()),
        Parsed::Header(header) => {
            assert!(header.len <= bytes.len() && header.len <= MAX_HEADER);
            assert_eq!(header.source.is_some(), header.destination.is_some());
            let alone = bytes.get(..header.len).expect("just checked");
            assert_eq!(parse(alone), Parsed::Header(header.clone()), "what follows is not looked at");
            for cut in 0..header.len {
                let Parsed::NeedMore(least) = parse(&alone[..cut]) else {
                    panic!("{cut} of {} bytes are not seen as incomplete", header.len)
                };
                assert!(cut < least && least <= header.len, "at {cut} it waits for {least}");
            }
            let config = proxy_header::ParseConfig { include_tlvs: true, ..Default::default() };
            // Where the balancer speaks for itself, the family must be ignored, and the other reader does not ignore it.
            let Some(source) = header.source else { return };
            let (theirs, length) =
                proxy_header::ProxyHeader::parse(alone, config).expect("we are the stricter");
            assert_eq!(length, header.len);
            let theirs = theirs.proxied_address().expect("it has a source");
            assert_eq!((theirs.source, Some(theirs.destination)), (source, header.destination));
        }
    }
}
