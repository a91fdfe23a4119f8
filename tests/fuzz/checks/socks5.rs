//! SOCKS5: a message means the same however it is split, no shorter prefix of it is one, and a target is what the CONNECT of the same text
//! asks for.

use egressd::wire::socks5::{Asked, LONGEST, Parsed, greeting, login, request};
use egressd::words::target::Target;

/// What a client has sent; each parser may meet it.
pub fn check(bytes: &[u8]) {
    split(bytes, greeting);
    split(bytes, login);
    split(bytes, request);
    if let Parsed::Message(Asked { target, .. }, length) = request(bytes) {
        match target {
            Ok(target) => {
                let text = target.to_string();
                assert_eq!(Target::connect(&text).as_ref(), Ok(&target), "{text}");
            }
            Err(unfit) => assert!(!unfit.raw.is_empty() && unfit.raw.len() < length + 8, "{unfit:?}"),
        }
    }
}

fn split<T: PartialEq + std::fmt::Debug>(bytes: &[u8], parse: fn(&[u8]) -> Parsed<T>) {
    match parse(bytes) {
        Parsed::NeedMore(least) => assert!(least > bytes.len() && least <= LONGEST, "waits for {least}"),
        Parsed::Malformed(why) => assert!(!why.is_empty() && why.is_ascii()),
        Parsed::AddressType => {}
        Parsed::Message(_, length) => {
            let alone = bytes.get(..length).expect("no longer than what is there");
            assert_eq!(parse(alone), parse(bytes), "what follows is not looked at");
            for cut in 0..length {
                let Parsed::NeedMore(least) = parse(&alone[..cut]) else {
                    panic!("{cut} of {length} bytes are not seen as incomplete")
                };
                assert!(cut < least && least <= length, "at {cut} it waits for {least}");
            }
        }
    }
}
