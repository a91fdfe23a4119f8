//! Which bodies are read as forms, and what may be in them.

use super::tests::presigned;
use super::*;

#[test]
fn a_form_has_no_credentials() {
    for (body, want) in [
        ("Action=ListUsers&Version=2010-05-08", Ok(())),
        ("Action=DeleteAccessKey&AccessKeyId=AKIAIOSFODNN7EXAMPLE", Ok(())),
        ("", Ok(())),
        ("Message=%26AWSAccessKeyId%3Dx", Ok(())),
        ("Action=x&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=y", Err(CredentialsError::Form)),
        ("AWS%41ccessKeyId=x", Err(CredentialsError::Form)),
        ("Action=x;Signature=y", Err(CredentialsError::Form)),
        (&presigned(), Err(CredentialsError::Form)),
        ("Action=AssumeRoleWithSAML&SAMLAssertion=x", Err(CredentialsError::Form)),
        ("%zz=1", Err(CredentialsError::Form)),
        (&"a=1&".repeat(49_999), Ok(())),
        (&"a&".repeat(50_000), Err(CredentialsError::LongForm)),
        (&format!("{}=1", "a".repeat(5_000)), Err(CredentialsError::Form)),
        (&"a".repeat(MAX_FORM + 1), Err(CredentialsError::LongForm)),
    ] {
        assert_eq!(check_form(body.as_bytes(), Form::Named), want, "{}", &body[..body.len().min(80)]);
    }
    assert_eq!(check_form(b"\xff=1", Form::Named), Err(CredentialsError::Form));
}

#[test]
fn a_body_that_does_not_say_what_it_is_has_no_credentials_either_and_may_be_anything_else() {
    let parts: String = (1..=10_000)
        .map(|number| {
            format!(
                "<Part><ETag>&quot;{number:032x}&quot;</ETag><PartNumber>{number}</PartNumber><ChecksumSHA256>{number:043}=\
                 </ChecksumSHA256></Part>"
            )
        })
        .collect();
    let complete = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let delete = "<Delete><Object><Key>100%.txt</Key></Object><Object><Key>a+b;c</Key></Object></Delete>";
    for (body, want) in [
        (complete.as_bytes(), Ok(())),
        (delete.as_bytes(), Ok(())),
        (br#"{"Authorization": "none", "a": "%"}"#, Ok(())),
        (b"\xff\xfe\x00 any bytes & others \xff", Ok(())),
        (b"", Ok(())),
        (b"Action=x&AWSAccessKeyId=x", Err(CredentialsError::Form)),
        (b"Action=x\r\nAWSAccessKeyId=x\r\n", Err(CredentialsError::Form)),
        (b"<x>=1& AWS%41ccessKeyId =x", Err(CredentialsError::Form)),
        (b"%zz=1&X-Amz-Credential=x", Err(CredentialsError::Form)),
        (b"\xff=1&Signature=x", Err(CredentialsError::Form)),
        (&[&[b' '; 10_000][..], b"Signature=x"].concat(), Err(CredentialsError::Form)),
        (&[&b"+".repeat(10_000)[..], b"Signature=x"].concat(), Err(CredentialsError::Form)),
        (&[b'a'; MAX_FORM + 1], Err(CredentialsError::LongUnnamed)),
        (&[b'\n'; 50_000], Err(CredentialsError::LongUnnamed)),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(check_form(body, Form::Unnamed), want, "{shown}");
    }
    assert_eq!(check_form(b"a=1", Form::Coded), Err(CredentialsError::CodedForm));
}

#[test]
fn what_a_body_is_read_as_is_said_by_its_type_if_that_is_known_and_by_nothing_else() {
    let named = |value| vec![("content-type", value)];
    // Method, fields, and what the body is read as.
    type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<Form>);
    let rows: Vec<Row<'_>> = vec![
        ("POST", vec![], Some(Form::Unnamed)),
        ("PATCH", vec![], Some(Form::Unnamed)),
        ("PUT", vec![], None),
        ("PUT", named("text/plain"), None),
        ("PUT", named("application/x-www-form-urlencoded"), Some(Form::Named)),
        ("POST", named("application/x-www-form-urlencoded"), Some(Form::Named)),
        ("POST", named("Application/X-WWW-Form-URLencoded; Charset=\"UTF-8\""), Some(Form::Named)),
        ("POST", vec![("content-type", "text/html"), ("content-type", "x/urlencoded")], Some(Form::Named)),
        ("POST", vec![("content_type", "application/x-www-form-urlencoded")], Some(Form::Named)),
        ("POST", named(""), Some(Form::Unnamed)),
        ("POST", named("text/plain"), Some(Form::Unnamed)),
        ("POST", named("form"), Some(Form::Unnamed)),
        ("POST", named("*/*"), Some(Form::Unnamed)),
        ("POST", named("application/"), Some(Form::Unnamed)),
        ("POST", named("application/json, application/xml"), Some(Form::Unnamed)),
        ("POST", named("x/y"), Some(Form::Unnamed)),
        ("POST", vec![("content-type", "text/xml"), ("content-type", "text/xml")], Some(Form::Unnamed)),
        ("POST", named("application/json"), None),
        ("POST", named("application/x-amz-json-1.1"), None),
        ("POST", named(" Application/XML ; charset=utf-8"), None),
        ("POST", named("application/vnd.git-lfs+json"), None),
        ("POST", named("application/octet-stream"), None),
        ("POST", named("binary/octet-stream"), None),
        ("POST", named("application/x-www-form-urlencoded; charset=utf-7"), Some(Form::Coded)),
        ("POST", named("text/plain;charset = 'UTF-16'"), Some(Form::Coded)),
        ("POST", named("application/x-www-form-urlencoded; charset="), Some(Form::Coded)),
        ("POST", named("application/json; charset=utf-16"), None),
        ("POST", vec![("content-encoding", "gzip")], Some(Form::Coded)),
        ("POST", vec![("content-encoding", "Identity")], Some(Form::Unnamed)),
    ];
    for (method, fields, want) in rows {
        let sent = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        assert_eq!(form(method, sent), want, "{method} {fields:?}");
    }
}
