//! What is said of files that hold something else than what is wanted.

use super::*;

#[test]
fn every_mistake_in_the_files_is_named_with_its_file() {
    let ca = authority("ca");
    let (own, other) = (ca.server(), ca.server());
    let good = mutual(&own, &ca.pem, Some(ca.crl(&[], 3024)));
    let certificate = |text: String| TlsPem { certificate: file("tls.crt", text), ..good.clone() };
    let key = |text: String| TlsPem { key: file("tls.key", text), ..good.clone() };
    let client_ca = |text: String| TlsPem { client_ca: Some(file("clients-ca.crt", text)), ..good.clone() };
    let crl = |text: String| TlsPem { client_crl: Some(file("clients.crl", text)), ..good.clone() };
    let section = |kind: &str| format!("-----BEGIN {kind}-----\nMAMBAgM=\n-----END {kind}-----\n");
    let cases = [
        (certificate(String::new()), "tls.crt: holds no certificate in PEM form: it is empty"),
        (
            certificate("0\u{3}".to_owned()),
            "tls.crt: holds no certificate in PEM form: it may be DER, which `openssl x509 -inform der -in FILE -out NEW` \
             converts",
        ),
        (
            certificate(own.key.clone()),
            "tls.crt: holds no certificate in PEM form but a private key: are two files swapped?",
        ),
        (
            certificate(section("CERTIFICATE REQUEST")),
            "tls.crt: holds no certificate in PEM form but a certificate signing request: use the certificate \
             that the CA issued for it",
        ),
        (certificate(section("CERTIFICATE")), "tls.crt: certificate 1 is malformed"),
        (
            certificate(format!("{}{}", own.certificate, section("CERTIFICATE"))),
            "tls.crt: certificate 2 is malformed",
        ),
        (
            certificate(own.certificate[..300].to_owned()),
            "tls.crt: a PEM section has no END line: the file is cut off",
        ),
        (
            certificate("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned()),
            "tls.crt: a PEM section is not valid base64",
        ),
        (
            certificate(format!("{}{}", ca.pem, own.certificate)),
            "tls.crt: the listener's own certificate must come first; the key belongs to certificate 2",
        ),
        (key(other.key.clone()), "tls.key: does not belong to the certificate in tls.crt"),
        (
            key(own.certificate.clone()),
            "tls.key: holds no private key in PEM form but a certificate: are two files swapped?",
        ),
        (
            key(section("ENCRYPTED PRIVATE KEY")),
            "tls.key: holds no private key in PEM form but an encrypted key, and egressd has no passphrase \
             for it: `openssl pkey -in FILE -out NEW` decrypts it",
        ),
        (
            key("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAMBAgM=\n\
                 -----END EC PRIVATE KEY-----\n"
                .to_owned()),
            "tls.key: holds no private key in PEM form but an encrypted key, and egressd has no passphrase \
             for it: `openssl pkey -in FILE -out NEW` decrypts it",
        ),
        (
            key(section("DSA PRIVATE KEY")),
            "tls.key: holds no private key in PEM form but a section of another kind",
        ),
        (key(section("PUBLIC KEY")), "tls.key: holds no private key in PEM form but a public key"),
        (
            key(section("PRIVATE KEY")),
            "tls.key: holds no usable RSA (2048 bits or more), ECDSA or Ed25519 key",
        ),
        (key(format!("{}{}", own.key, other.key)), "tls.key: holds more than one private key"),
        (client_ca("nothing".to_owned()), "clients-ca.crt: holds no certificate in PEM form"),
        (client_ca(section("CERTIFICATE")), "clients-ca.crt: certificate 1 is malformed"),
        (
            crl(ca.pem.clone()),
            "clients.crl: holds no certificate revocation list in PEM form but a certificate: are two files swapped?",
        ),
        (crl(section("X509 CRL")), "clients.crl: revocation list 1 is malformed"),
        (
            TlsPem { client_ca: None, ..good.clone() },
            "clients.crl: client_crl has no effect without client_ca",
        ),
    ];
    for (pem, expected) in cases {
        let problems = ServerTls::from_pem(&pem, Timestamp::now()).unwrap_err();
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
    // Each kind of file in its binary form, where each kind is wanted.
    let der = |pem: &str| {
        let (_, der): (_, Vec<u8>) = PemObject::from_pem_slice(pem.as_bytes()).unwrap();
        der
    };
    let pfx = b"\x30\x0a\x02\x01\x03\x30\x05\x06\x03\x2a\x03\x04".to_vec();
    let forms = [der(&own.certificate), der(&own.key), der(&ca.crl(&[], 3024)), pfx];
    let converts = |command: &str| {
        format!(": it may be DER, which `openssl {command} -inform der -in FILE -out NEW` converts")
    };
    let swapped = |kind: &str| format!(" but a {kind} in DER form: are two files swapped?");
    let of_pfx = |part: &str| {
        format!(" but a PKCS #12 file: `openssl pkcs12 -in FILE {part} -nodes -out NEW` converts it")
    };
    let (a_certificate, a_list) = (swapped("certificate"), swapped("certificate revocation list"));
    let rows = [
        ("tls.crt", "certificate", [converts("x509"), converts("x509"), a_list.clone(), of_pfx("-nokeys")]),
        (
            "tls.key",
            "private key",
            [a_certificate.clone(), converts("pkey"), a_list.clone(), of_pfx("-nocerts")],
        ),
        ("clients-ca.crt", "certificate", [converts("x509"), converts("x509"), a_list, of_pfx("-nokeys")]),
        (
            "clients.crl",
            "certificate revocation list",
            [
                a_certificate,
                converts("crl"),
                converts("crl"),
                " but a PKCS #12 file, which has none".to_owned(),
            ],
        ),
    ];
    for (name, wanted, told) in rows {
        for (bytes, told) in forms.iter().zip(told) {
            let mut pem = good.clone();
            match name {
                "tls.crt" => pem.certificate.bytes = bytes.clone(),
                "tls.key" => pem.key.bytes = bytes.clone(),
                "clients-ca.crt" => pem.client_ca = Some(file(name, bytes.clone())),
                _ => pem.client_crl = Some(file(name, bytes.clone())),
            }
            let problems = ServerTls::from_pem(&pem, Timestamp::now()).unwrap_err();
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(problems, [format!("{name}: holds no {wanted} in PEM form{told}")]);
        }
    }
    let both = TlsPem { key: file("tls.key", ""), client_crl: Some(file("clients.crl", "")), ..good };
    assert_eq!(ServerTls::from_pem(&both, Timestamp::now()).unwrap_err().len(), 2, "all at once");
}
