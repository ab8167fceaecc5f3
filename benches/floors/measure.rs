//! How it is measured: batches of both sides take turns, and the medians are compared.

use std::time::{Duration, Instant};

/// What the command line says.
pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Whether a commit waits for the disk.
    pub(crate) durable: bool,
    filter: Option<String>,
}

impl Options {
    /// `--quick`, `--durable` and a part of a bench's name; what else cargo says, such as
    /// `--bench`, is nothing.
    pub(crate) fn read() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            quick: arguments.iter().any(|argument| argument == "--quick"),
            durable: arguments.iter().any(|argument| argument == "--durable"),
            filter: arguments
                .into_iter()
                .find(|argument| !argument.starts_with('-')),
        }
    }

    /// Whether a bench was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter))
    }

    pub(crate) fn run(&self, name: &str, bench: impl FnOnce(&Self) -> Medians) {
        if !self.wants(name) {
            return;
        }
        let Medians { ours, floor } = bench(self);
        let ratio = ours / floor;
        println!("bench={name} ours={ours:.0} floor={floor:.0} ratio={ratio:.2}");
    }

    /// How many records a bench reads from.
    pub(crate) const fn records(&self) -> usize {
        if self.quick { 10_000 } else { 100_000 }
    }

    /// Lets batches of both sides take turns. Each side works `count` times and says how long it
    /// took, without what it had to get ready before.
    pub(crate) fn measure(
        &self,
        mut ours: impl FnMut(usize) -> Duration,
        mut floor: impl FnMut(usize) -> Duration,
    ) -> Medians {
        let (lasting, batch) = if self.quick {
            (800, 500)
        } else {
            (4_000, 2_000)
        };
        let (lasting, batch) = (Duration::from_millis(lasting), Duration::from_micros(batch));
        // Warms up, and finds a batch that is long against the reading of the clock.
        let mut count = 8;
        while ours(count) < batch {
            floor(count);
            count *= 2;
        }
        let mut batches = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < lasting || batches.0.len() < 10 {
            batches.0.push(ours(count));
            batches.1.push(floor(count));
        }
        Medians {
            ours: median(batches.0, count),
            floor: median(batches.1, count),
        }
    }

    /// Like [`measure`](Self::measure), for work that asks a server: batches of `count`, after
    /// `count` times on each side that are not measured.
    pub(crate) fn measure_calls(
        &self,
        count: usize,
        mut ours: impl FnMut(usize) -> Duration,
        mut floor: impl FnMut(usize) -> Duration,
    ) -> Medians {
        let lasting = Duration::from_millis(if self.quick { 1_500 } else { 6_000 });
        ours(count);
        floor(count);
        let mut batches = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < lasting || batches.0.len() < 5 {
            batches.0.push(ours(count));
            batches.1.push(floor(count));
        }
        Medians {
            ours: median(batches.0, count),
            floor: median(batches.1, count),
        }
    }

    /// Like [`measure`](Self::measure), for work that writes `rows` at once: the figures are those
    /// of one row.
    pub(crate) fn measure_rows(
        &self,
        rows: usize,
        mut ours: impl FnMut() -> Duration,
        mut floor: impl FnMut() -> Duration,
    ) -> Medians {
        let (lasting, least) = if self.quick { (1_500, 3) } else { (6_000, 5) };
        let lasting = Duration::from_millis(lasting);
        let mut batches = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < lasting || batches.0.len() < least {
            batches.0.push(ours());
            batches.1.push(floor());
        }
        Medians {
            ours: median(batches.0, rows),
            floor: median(batches.1, rows),
        }
    }
}

/// Nanoseconds for one piece of work.
pub(crate) struct Medians {
    ours: f64,
    floor: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts of batches are small")]
fn median(mut batches: Vec<Duration>, count: usize) -> f64 {
    batches.sort_unstable();
    let middle = batches.get(batches.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e9 / count as f64
}

pub(crate) fn timed(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

/// Places below `below` in an order without pattern, the same in every run.
pub(crate) struct Places(pub(crate) u64);

impl Places {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap_or_default()
    }

    pub(crate) fn some<T: Copy>(&mut self, of: &[T], count: usize) -> Vec<T> {
        (0..count).map(|_| of[self.next(of.len())]).collect()
    }
}
