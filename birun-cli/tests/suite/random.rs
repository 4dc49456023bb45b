//! Chance that can be repeated.

/// A generator whose seed was told (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins with `BIRUN_TEST_SEED`, or by chance, and tells with what.
    #[expect(clippy::disallowed_methods, reason = "a run that failed is repeated with its seed")]
    #[expect(clippy::print_stdout, reason = "whoever sees it fail needs the seed")]
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("BIRUN_TEST_SEED").ok().map(|text| text.parse().expect("a number"));
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
            u64::from(now.subsec_nanos()) + now.as_secs()
        });
        println!("{what}: BIRUN_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A generator of its own for someone else.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next().max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
