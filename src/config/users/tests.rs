use super::*;

/// Openwall's test vector: the password is `U*U`.
const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
/// From the tests of the reference implementation: the password is `password`.
const ARGON2: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

fn users(text: &str) -> Users {
    Users::parse(text.as_bytes()).unwrap().0
}

#[test]
fn known_vectors_are_verified() {
    let users = users(&format!("a:{BCRYPT}\r\n# comment\n\n \t\nb:{ARGON2}"));
    assert_eq!(users.hashing(), 256 * 1024);
    let cases = [
        ("a", "U*U", true),
        ("a", "U*V", false),
        ("a", "", false),
        ("a", "password", false),
        ("b", "password", true),
        ("b", "passwort", false),
        ("b", "U*U", false),
        // The stand-in's password does not let an unknown user in, whichever user is the stand-in.
        ("c", "U*U", false),
        ("c", "password", false),
        ("A", "U*U", false),
        ("", "U*U", false),
    ];
    for (user, password, expected) in cases {
        for stand_in in 0..3 {
            let right = users.check(user, password.as_bytes(), stand_in, &mut Scratch::default()).unwrap();
            assert_eq!(right, expected, "{user} {password}");
        }
    }
    assert_eq!(users.len(), 2);
}

#[test]
fn bcrypt_verifies_72_bytes_and_no_more() {
    let long = "p".repeat(80);
    let hash = bcrypt::hash(&long, 4).unwrap();
    let users = users(&format!("a:{hash}\nb:{ARGON2}"));
    let (at, over) = (&long.as_bytes()[..72], &long.as_bytes()[..73]);
    assert!(!users.cannot_verify("a", at, 0) && users.check("a", at, 0, &mut Scratch::default()).unwrap());
    assert!(
        users.cannot_verify("a", over, 0) && !users.check("a", over, 0, &mut Scratch::default()).unwrap()
    );
    assert!(!users.cannot_verify("b", over, 0));
    // An unknown user has the answer of the stand-in.
    assert!(users.cannot_verify("c", over, 0) && !users.cannot_verify("c", over, 1));
    assert!(!super::Users::parse(b"").unwrap().0.cannot_verify("c", over, 0));
}

#[test]
fn a_print_changes_with_the_hash_alone() {
    let other = BCRYPT.replace("$2a$", "$2b$");
    let before = users(&format!("a:{BCRYPT}\nb:{ARGON2}\n"));
    let after = users(&format!("# moved\nb:{ARGON2}\r\na:{other}\n"));
    assert_eq!(before.print_of("b"), after.print_of("b"));
    assert_ne!(before.print_of("a"), after.print_of("a"));
    assert!(before.print_of("a").is_some() && before.print_of("c").is_none());
}

#[test]
fn all_prefixes_of_bcrypt_are_the_same_hash() {
    for prefix in ["$2y$", "$2b$", "$2a$"] {
        let users = users(&format!("a:{}", BCRYPT.replace("$2a$", prefix)));
        assert!(users.check("a", b"U*U", 0, &mut Scratch::default()).unwrap(), "{prefix}");
    }
}

#[test]
fn what_is_weak_or_malformed_is_refused_with_its_line_and_the_way_out() {
    let weak = |kind: &str| {
        format!("user \"u\": {kind} is not accepted: make a hash with `htpasswd -B -C 12 FILE USER`")
    };
    let phc =
        "user \"u\": the argon2 hash is malformed: write the PHC form $argon2id$v=19$m=…,t=…,p=…$SALT$HASH";
    let other = "user \"u\": only argon2id and argon2i of version 19 are accepted";
    let cases: &[(String, String)] = &[
        ("u:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/".to_owned(), weak("apr1 (MD5)")),
        ("u:$1$O3JMY.Tw$AdLnLjQ/5jXF9.MTp3gHv/".to_owned(), weak("crypt's MD5")),
        ("u:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), weak("unsalted SHA-1")),
        ("u:{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), weak("SHA-1")),
        ("u:$5$salt$hash".to_owned(), weak("crypt's SHA-256")),
        ("u:$6$salt$hash".to_owned(), weak("crypt's SHA-512")),
        (format!("u:{}", BCRYPT.replace("$2a$", "$2x$")), weak("the faulty variant of bcrypt ($2x$)")),
        ("u:rqXexS6ZhobKA".to_owned(), weak("crypt's DES")),
        ("u:".to_owned(), weak("an empty hash")),
        (
            "u:sesame".to_owned(),
            weak("a hash that is neither bcrypt nor argon2 (perhaps a cleartext password)"),
        ),
        (
            format!("u:{}", &BCRYPT[..59]),
            "user \"u\": the bcrypt hash is malformed: make one with `htpasswd -B -C 12 FILE USER`"
                .to_owned(),
        ),
        (
            format!("u:{BCRYPT}:more"),
            "user \"u\": the bcrypt hash is malformed: make one with `htpasswd -B -C 12 FILE USER`"
                .to_owned(),
        ),
        (
            format!("u:{BCRYPT} "),
            "user \"u\": the bcrypt hash is malformed: make one with `htpasswd -B -C 12 FILE USER`"
                .to_owned(),
        ),
        (
            format!("u:{}", BCRYPT.replace("$05$", "$03$")),
            "user \"u\": the bcrypt cost is 3: it must be from 4 to 16, and 12 is a good one".to_owned(),
        ),
        (
            format!("u:{}", BCRYPT.replace("$05$", "$17$")),
            "user \"u\": the bcrypt cost is 17: it must be from 4 to 16, and 12 is a good one".to_owned(),
        ),
        ("u:$argon2id$".to_owned(), phc.to_owned()),
        ("u:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ".to_owned(), phc.to_owned()),
        (format!("u:{}", ARGON2.replace("m=256,", "")), phc.to_owned()),
        (format!("u:{}", ARGON2.replace(",p=1", ",p=0")), phc.to_owned()),
        (format!("u:{}", ARGON2.replace("argon2id", "argon2d")), other.to_owned()),
        (format!("u:{}", ARGON2.replace("v=19", "v=16")), other.to_owned()),
        (format!("u:{}", ARGON2.replace("v=19$", "")), other.to_owned()),
        (
            format!("u:{}", ARGON2.replace("m=256", "m=262145")),
            "user \"u\": argon2 with m=262145,t=2,p=1 is too expensive: use at most m=262144,t=16,p=16"
                .to_owned(),
        ),
        ("no colon".to_owned(), "no colon: write USER:HASH".to_owned()),
        (format!(":{BCRYPT}"), "no user before the colon: write USER:HASH".to_owned()),
        (
            format!(" u:{BCRYPT}"),
            "the user name has spaces around it, or control characters: remove them".to_owned(),
        ),
        (
            format!("u\u{7}:{BCRYPT}"),
            "the user name has spaces around it, or control characters: remove them".to_owned(),
        ),
        (
            format!("{}:{BCRYPT}", "u".repeat(256)),
            "the user name is longer than 255 bytes: shorten it".to_owned(),
        ),
    ];
    for (line, expected) in cases {
        let problems = Users::parse(format!("good:{BCRYPT}\n{line}\n").as_bytes()).unwrap_err();
        assert_eq!(problems, [LineProblem { line: 2, text: expected.clone() }]);
    }
    assert_eq!(
        Users::parse(b"\xff:x").unwrap_err()[0].to_string(),
        "line 1: the line is not UTF-8 text: save the file as UTF-8"
    );
}

#[test]
fn all_problems_come_at_once_and_a_user_stands_once() {
    let text = format!("a:{BCRYPT}\nb:sesame\na:{ARGON2}\nc\n");
    let problems = Users::parse(text.as_bytes()).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(problems[1].text, "user \"a\" is already on line 1: remove one of the lines");
}

#[test]
fn what_is_cheap_is_a_warning() {
    let cases = [
        (format!("a:{BCRYPT}"), Some("a bcrypt cost of 5 is low")),
        (format!("a:{}", BCRYPT.replace("$05$", "$09$")), Some("a bcrypt cost of 9 is low")),
        (format!("a:{}", BCRYPT.replace("$05$", "$10$")), None),
        (format!("a:{ARGON2}"), Some("argon2 with m=256,t=2 is low")),
        (format!("a:{}", ARGON2.replace("m=256,t=2", "m=8192,t=2")), Some("m=8192,t=2 is low")),
        (format!("a:{}", ARGON2.replace("m=256,t=2", "m=19456,t=2")), None),
        (format!("a:{}", ARGON2.replace("m=256,t=2", "m=7168,t=5")), None),
        ("# nobody\n".to_owned(), Some("the file has no users: every client is refused")),
    ];
    for (text, expected) in cases {
        let (_, warnings) = Users::parse(text.as_bytes()).unwrap();
        match expected {
            Some(part) => assert!(warnings.len() == 1 && warnings[0].text.contains(part), "{warnings:?}"),
            None => assert!(warnings.is_empty(), "{warnings:?}"),
        }
    }
}

#[test]
fn without_users_everybody_is_refused() {
    let users = users("");
    assert!(users.is_empty());
    assert!(!users.check("a", b"", 7, &mut Scratch::default()).unwrap());
}

#[test]
fn no_hash_is_shown() {
    assert_eq!(format!("{:?}", users(&format!("a:{BCRYPT}"))), "Users { len: 1, .. }");
}
