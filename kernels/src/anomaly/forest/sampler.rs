//! Which points a tree keeps: a reservoir in which the latest points are the likelier, the longer ago the others came.
//!
//! Each point gets the weight `ln(E) - decay · n`, with `E` drawn from the exponential distribution of mean 1 and `n` its number; the
//! points of the least weights are the sample (P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir",
//! Information Processing Letters 97(5), 2006; with decay: AWS's forest). A full sample takes point `n` if its `E` is below
//! `c(n) = exp(greatest weight + decay · n)`. So how many points are passed over before the next one is taken can be drawn at once
//! (as in J. S. Vitter's reservoirs, 1985): they are at least `k` with probability `exp(-c(n) · (1 + e^decay + … + e^(decay · (k - 1))))`.

use super::random::Random;

/// A weight and the leaf of its point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub weight: f64,
    pub leaf: u16,
}

/// The sample of one tree as leaves, with its random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    pub random: Random,
    /// Number of the point that is taken next; of no meaning before the sample is full.
    pub next: u64,
    /// A heap, the greatest weight first.
    heap: Vec<Kept>,
}

impl Sampler {
    /// A sampler without points.
    pub fn new(random: Random) -> Sampler {
        Sampler { random, next: 0, heap: Vec::new() }
    }

    /// Points of the sample.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Kept>()
    }

    /// What is kept, in no order.
    pub fn kept(&self) -> &[Kept] {
        &self.heap
    }

    /// Whether a sample of `size` takes point `number`.
    #[inline(always)]
    pub fn takes(&self, number: u64, size: usize) -> bool {
        self.heap.len() < size || number == self.next
    }

    /// A weight for point `number`, which is taken.
    fn draw(&mut self, number: u64, size: usize, decay: f64) -> f64 {
        let unit = self.random.unit();
        let exponential = match self.heap.first() {
            // Below the greatest weight: the distribution of E is cut off there.
            Some(greatest) if self.heap.len() >= size => {
                let most = -(-(greatest.weight + decay * number as f64).exp()).exp_m1();
                -(-unit * most).ln_1p()
            }
            _ => -unit.ln(),
        };
        exponential.max(f64::MIN_POSITIVE).ln() - decay * number as f64
    }

    /// Makes room for point `number` in a sample of `size`: its weight, and the leaf that loses a point, if the sample is full.
    pub fn make_room(&mut self, number: u64, size: usize, decay: f64) -> (f64, Option<u16>) {
        let weight = self.draw(number, size, decay);
        (weight, (self.heap.len() >= size).then(|| self.heap[0].leaf))
    }

    /// Puts a point in, in place of that of the greatest weight if the sample is full, and draws which one is next.
    pub fn put(&mut self, kept: Kept, number: u64, size: usize, decay: f64) {
        if self.heap.len() < size {
            self.heap.push(kept);
            self.rise(self.heap.len() - 1);
        } else {
            self.heap[0] = kept;
            self.sink();
        }
        if self.heap.len() == size {
            self.next = number.saturating_add(1).saturating_add(self.passed_over(number + 1, decay));
        }
    }

    /// How many points from `number` on are not taken.
    fn passed_over(&mut self, number: u64, decay: f64) -> u64 {
        let exponential = -self.random.unit().ln();
        let bound = (self.heap[0].weight + decay * number as f64).exp();
        // A quotient beyond all numbers saturates.
        match decay {
            0.0 => (exponential / bound) as u64,
            _ => ((exponential * decay.exp_m1() / bound).ln_1p() / decay) as u64,
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.heap[(at - 1) / 2].weight < self.heap[at].weight {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let weight = |child: usize| self.heap.get(child).map_or(f64::NEG_INFINITY, |kept| kept.weight);
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let greater = if weight(right) > weight(left) { right } else { left };
            if weight(greater) <= self.heap[at].weight {
                return;
            }
            self.heap.swap(at, greater);
            at = greater;
        }
    }

    /// The sampler that kept these points.
    pub fn restored(random: Random, next: u64, kept: Vec<Kept>) -> Sampler {
        let mut sampler = Sampler { random, next, heap: Vec::with_capacity(kept.len()) };
        for kept in kept {
            sampler.heap.push(kept);
            sampler.rise(sampler.heap.len() - 1);
        }
        sampler
    }
}
