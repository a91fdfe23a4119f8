//! Credentials for AWS: in one place alone, whatever the case of names is, and of the account that the bytes say.

use egressd::wire::aws::{Form, MAX_FORM, check_form, read};
use egressd::words::aws::CredentialsError;
use egressd::words::aws::{AccessKeyId, Signer};

const HOST: &str = "git-codecommit.eu-central-1.amazonaws.com";

/// The input is a query in the first line, and fields, one a line.
pub fn check(bytes: &[u8]) {
    for form in [Form::Named, Form::Unnamed] {
        if check_form(bytes, form).is_ok() {
            assert!(bytes.len() <= MAX_FORM && !bytes.starts_with(b"AWSAccessKeyId="));
        }
    }
    assert!(check_form(bytes, Form::Coded).is_err());
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let fields: Vec<(&str, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at(colon);
            Some((std::str::from_utf8(name).ok()?, value.get(1..)?.trim_ascii()))
        })
        .collect();
    let told = read(HOST, query, fields.iter().copied());
    let upper: Vec<(String, &[u8])> =
        fields.iter().map(|(name, value)| (name.to_ascii_uppercase(), *value)).collect();
    let again = read(HOST, query, upper.iter().map(|(name, value)| (name.as_str(), *value)));
    assert_eq!(again, told, "the case of a field's name says nothing");
    let Ok(request) = told else { return };
    match &request.signer {
        Signer::Key(id) => assert_eq!(AccessKeyId::new(id.as_str()), Some(*id)),
        Signer::GitUser { user, account } => assert!(user.ends_with(&format!("-at-{account}"))),
    }
    assert!(request.signed_fields.is_empty() || request.covers("host"));
    // A second credential, wherever it is, refuses the whole.
    for (name, value) in [("authorization", "Basic eDp5"), ("cookie", "a=b")] {
        let more = fields.iter().copied().chain([(name, value.as_bytes())]);
        assert_eq!(read(HOST, query, more), Err(CredentialsError::TwoPlaces));
    }
    let more = format!("{}&x-amz-signature=1", query.unwrap_or_default());
    assert!(read(HOST, Some(&more), fields.iter().copied()).is_err());
}
