//! An argon2 hash of a users file, and the memory in which passwords are compared with it.

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// OWASP's minimum memory in KiB, and the minimum product of memory and passes in its recommendations.
const LOW_MEMORY: u32 = 7 * 1024;
const LOW_WORK: u64 = 5 * 7 * 1024;
/// 256 MiB: more could be all of the proxy's memory. With 16 passes and lanes a verification takes a few seconds.
const MOST_MEMORY: u32 = 256 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;
/// 1.3, the only version that is not superseded.
const VERSION: u32 = 19;

/// A hash whose form and costs were checked.
pub(super) struct Argon2Hash(Box<PasswordHash>);

/// The verification was not possible: out of memory.
#[derive(Debug)]
pub(crate) struct Unable;

/// Memory of the last verification, for the next one. A new piece each time would cost several of them: the allocator gives what was
/// freed to small pieces, and then finds no room in it for as much again.
#[derive(Default)]
pub(crate) struct Scratch(Vec<Block>);

impl Scratch {
    fn of(&mut self, blocks: usize) -> Result<&mut [Block], Unable> {
        let more = blocks.saturating_sub(self.0.len());
        self.0.try_reserve_exact(more).map_err(|_| Unable)?;
        self.0.resize(self.0.len() + more, Block::default());
        self.0.get_mut(..blocks).ok_or(Unable)
    }
}

impl Argon2Hash {
    /// In PHC form, and a warning about it.
    pub(super) fn read(text: &str) -> Result<(Self, Option<String>), String> {
        let malformed =
            "the argon2 hash is malformed: write the PHC form $argon2id$v=19$m=…,t=…,p=…$SALT$HASH";
        let hash = PasswordHash::new(text).map_err(|_| malformed)?;
        // A missing parameter would get the crate's default, and no password would verify.
        let named = |name| hash.params.iter().any(|(ident, _)| ident.as_str() == name);
        if hash.salt.is_none() || hash.hash.is_none() || !["m", "t", "p"].into_iter().all(named) {
            return Err(malformed.to_owned());
        }
        if !matches!(hash.algorithm.as_str(), "argon2id" | "argon2i") || hash.version != Some(VERSION) {
            return Err("only argon2id and argon2i of version 19 are accepted".to_owned());
        }
        let params = Params::try_from(&hash).map_err(|_| malformed)?;
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        if memory > MOST_MEMORY || passes > MOST_PASSES || lanes > MOST_LANES {
            return Err(format!(
                "argon2 with m={memory},t={passes},p={lanes} is too expensive: use at most m={MOST_MEMORY},t={MOST_PASSES},p={MOST_LANES}"
            ));
        }
        let is_low = memory < LOW_MEMORY || u64::from(memory) * u64::from(passes) < LOW_WORK;
        let warning =
            is_low.then(|| format!("argon2 with m={memory},t={passes} is low: use m=19456,t=2,p=1"));
        Ok((Argon2Hash(Box::new(hash)), warning))
    }

    /// Bytes that a verification takes.
    pub(super) fn memory(&self) -> u64 {
        Params::try_from(&*self.0).map_or(0, |params| params.block_count() as u64 * Block::SIZE as u64)
    }

    /// Compares in constant time.
    pub(super) fn fits(&self, password: &[u8], scratch: &mut Scratch) -> Result<bool, Unable> {
        let hash = &*self.0;
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Ok(false) };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| Unable)?;
        // The parameters come from the hash, and with them the length of the output.
        let params = Params::try_from(hash).map_err(|_| Unable)?;
        let blocks = scratch.of(params.block_count())?;
        let mut computed = vec![0; expected.as_bytes().len()];
        Argon2::new(algorithm, Version::V0x13, params)
            .hash_password_into_with_memory(password, salt, &mut computed, blocks)
            .map_err(|_| Unable)?;
        Ok(Output::new(&computed).map_err(|_| Unable)? == *expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the reference implementation: `printf password | argon2 somesalt -id -m 8 -t 2 -p 1 -l 32 -e`, and the same with -m 16.
    const SMALL: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    const LARGE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn one_piece_of_memory_serves_hashes_of_every_size_one_after_the_other() {
        let hashes = [SMALL, LARGE, SMALL].map(|text| Argon2Hash::read(text).expect("a hash").0);
        assert_eq!(hashes.each_ref().map(Argon2Hash::memory), [256 << 10, 64 << 20, 256 << 10]);
        let mut scratch = Scratch::default();
        for round in 0..2 {
            for hash in &hashes {
                assert!(hash.fits(b"password", &mut scratch).unwrap(), "{round}");
                assert!(!hash.fits(b"passwore", &mut scratch).unwrap(), "{round}");
            }
        }
        assert_eq!(scratch.0.len(), 64 << 10, "as large as the largest");
    }
}
