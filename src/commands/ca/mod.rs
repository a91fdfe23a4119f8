//! `egressd ca`: an authority for inspection, which clients trust and which can sign for the permitted hosts alone.
//!
//! [`permit`] reads the hosts, [`earlier`] a root that is there, [`make`] makes keys and certificates, [`mod@write`] puts them on
//! disk, [`tell`] says what to do with them. Not here: the leaves that egressd signs with it ([`crate::transport::tls::mint`]).

mod arguments;
mod earlier;
mod make;
mod permit;
mod tell;
mod write;

pub(crate) use arguments::Ca;
