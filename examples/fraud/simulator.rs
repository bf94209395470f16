//! Card transactions with known frauds, after the public description in Le Borgne, Siblini, Lebichot and Bontempi,
//! "Reproducible Machine Learning for Credit Card Fraud Detection – Practical Handbook" (ULB, 2022), chapter 3,
//! section "Transaction data simulator". The code is our own.
//!
//! * Customers and terminals lie on a map of 100 × 100; a customer pays at the terminals within a radius.
//! * A customer makes Poisson(U(0, 4)) transactions a day, around noon, of N(m, m/2) with m from U(5, 100); a negative
//!   amount is drawn again from U(0, 2m).
//! * Frauds: (1) every amount over 220; (2) two terminals a day are compromised and everything paid there in the next
//!   28 days is fraud; (3) the credentials of three customers a day leak, and in the next 14 days a third of their
//!   transactions has five times its amount and is fraud. A later scenario takes over from an earlier one.
//!
//! Added to the handbook: transactions arrive out of order. Each is under way for up to [`MAX_DELAY`]; one in
//! [`OFFLINE_ONE_IN`] is held back by a terminal without a line, for up to [`OFFLINE_DELAY`]. And (4) a few cards a day are
//! cloned: the copies pay usual amounts at terminals all over the map, several times within two hours. The other transactions are the same with
//! these and without.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

/// One simulated day in milliseconds.
pub const DAY: i64 = 86_400_000;
/// The first midnight, 2018-04-01 as in the handbook, in milliseconds since 1970.
pub const FIRST_DAY: i64 = 17_622 * DAY;
/// The longest that an ordinary transaction is under way, in milliseconds.
pub const MAX_DELAY: i64 = 10 * 60_000;
/// The longest that a terminal without a line holds a transaction back, in milliseconds.
pub const OFFLINE_DELAY: i64 = 2 * DAY;
/// One transaction in so many is held back.
pub const OFFLINE_ONE_IN: u32 = 10_000;
/// Amounts over this many cents are fraud.
pub const LIMIT_CENTS: u32 = 22_000;
/// How long a compromised terminal stays so, in days.
const TERMINAL_DAYS: i64 = 28;
/// How long leaked credentials are misused, in days.
const CARD_DAYS: i64 = 14;
/// Cards that are cloned a day.
const CLONED_A_DAY: usize = 3;
/// How long a clone is used, in milliseconds, and how often.
const CLONE_TIME: i64 = 2 * 3_600_000;
const CLONE_PAYMENTS: std::ops::RangeInclusive<u32> = 3..=6;

/// Size of the simulated world.
#[derive(Debug, Clone, Copy)]
pub struct World {
    pub customers: usize,
    pub terminals: usize,
    /// How far a customer goes, on a map of 100 × 100.
    pub radius: f64,
    pub seed: u64,
}

/// Why a transaction is a fraud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// The amount is over the limit.
    Amount = 1,
    /// The terminal is compromised.
    Terminal = 2,
    /// The card's credentials have leaked.
    Card = 3,
    /// A copy of the card is used.
    Clone = 4,
}

/// One payment. `scenario` is the truth, which is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// When it was made, in milliseconds since 1970.
    pub ts: i64,
    /// When it arrives.
    pub arrival: i64,
    pub customer: u32,
    pub terminal: u32,
    pub cents: u32,
    pub scenario: Option<Scenario>,
}

struct Customer {
    mean: f64,
    /// e^(−mean transactions a day): all that Knuth's Poisson generator needs.
    exp_rate: f64,
    terminals: Vec<u32>,
}

/// An endless stream of transactions in the order of their arrival; the same seed gives the same stream.
pub struct Simulator {
    rng: Xoshiro256PlusPlus,
    /// That of the clones alone.
    clones: Xoshiro256PlusPlus,
    customers: Vec<Customer>,
    /// Where each terminal stands.
    pub places: Vec<(f64, f64)>,
    day: i64,
    /// The day from which a terminal is, or a card's credentials are, safe again.
    terminal_safe: Vec<i64>,
    card_safe: Vec<i64>,
    /// Transactions that arrive after the current day.
    waiting: Vec<Transaction>,
    ready: std::vec::IntoIter<Transaction>,
}

impl Simulator {
    /// # Errors
    /// If no customer reaches a terminal, so that there would be no transaction at all.
    pub fn new(world: World) -> Result<Simulator, String> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(world.seed);
        let place = |rng: &mut Xoshiro256PlusPlus| (rng.random_range(0.0..100.0), rng.random_range(0.0..100.0));
        let places: Vec<_> = (0..world.terminals).map(|_| place(&mut rng)).collect();
        let mut customers = Vec::with_capacity(world.customers);
        for _ in 0..world.customers {
            let (x, y) = place(&mut rng);
            let near = |&(tx, ty): &(f64, f64)| (tx - x).powi(2) + (ty - y).powi(2) < world.radius * world.radius;
            let terminals = (0u32..).zip(&places).filter(|(_, place)| near(place)).map(|(terminal, _)| terminal).collect();
            let (mean, rate): (f64, f64) = (rng.random_range(5.0..100.0), rng.random_range(0.0..4.0));
            customers.push(Customer { mean, exp_rate: (-rate).exp(), terminals });
        }
        if world.terminals < 2 || world.customers < 3 || customers.iter().all(|customer| customer.terminals.is_empty()) {
            return Err(format!(
                "nobody could pay: {} customers, {} terminals within a radius of {}; the scenarios need 3 customers, \
                 2 terminals and someone within reach",
                world.customers, world.terminals, world.radius
            ));
        }
        Ok(Simulator {
            rng,
            clones: Xoshiro256PlusPlus::seed_from_u64(!world.seed),
            terminal_safe: vec![0; places.len()],
            card_safe: vec![0; customers.len()],
            customers,
            places,
            day: 0,
            waiting: Vec::new(),
            ready: Vec::new().into_iter(),
        })
    }

    /// Days that were simulated so far.
    pub fn days(&self) -> i64 {
        self.day
    }

    fn simulate_day(&mut self) {
        for terminal in sample(&mut self.rng, self.places.len(), 2) {
            self.terminal_safe[terminal] = self.day + TERMINAL_DAYS;
        }
        for card in sample(&mut self.rng, self.customers.len(), 3) {
            self.card_safe[card] = self.day + CARD_DAYS;
        }
        for customer in 0..self.customers.len() {
            for _ in 0..poisson(&mut self.rng, self.customers[customer].exp_rate) {
                let transaction = self.pay(customer);
                self.waiting.extend(transaction);
            }
        }
        for card in sample(&mut self.clones, self.customers.len(), CLONED_A_DAY) {
            self.clone_card(card);
        }
        self.day += 1;
        let midnight = FIRST_DAY + self.day * DAY;
        self.waiting.sort_unstable_by_key(|transaction| transaction.arrival);
        let arrived = self.waiting.partition_point(|transaction| transaction.arrival < midnight);
        let later = self.waiting.split_off(arrived);
        self.ready = std::mem::replace(&mut self.waiting, later).into_iter();
    }

    /// What a copy of a card pays today.
    fn clone_card(&mut self, number: usize) {
        let (rng, mean) = (&mut self.clones, self.customers[number].mean);
        let first = FIRST_DAY + self.day * DAY + rng.random_range(0..DAY - CLONE_TIME);
        for _ in 0..rng.random_range(CLONE_PAYMENTS) {
            let terminal = rng.random_range(0..self.places.len()) as u32;
            let cents = ((mean * rng.random_range(0.5..1.5)) * 100.0).round() as u32;
            let ts = first + rng.random_range(0..CLONE_TIME);
            let arrival = ts + rng.random_range(0..=MAX_DELAY);
            self.waiting.push(Transaction { ts, arrival, customer: number as u32, terminal, cents, scenario: Some(Scenario::Clone) });
        }
    }

    /// One transaction of today; none if its time falls on another day or no terminal is in reach, as in the handbook.
    fn pay(&mut self, number: usize) -> Option<Transaction> {
        let (rng, customer) = (&mut self.rng, &self.customers[number]);
        let seconds = (43_200.0 + 20_000.0 * rng.sample::<f64, _>(StandardNormal)).trunc();
        if !(seconds > 0.0 && seconds < 86_400.0) || customer.terminals.is_empty() {
            return None;
        }
        let mut amount = customer.mean + customer.mean / 2.0 * rng.sample::<f64, _>(StandardNormal);
        if amount < 0.0 {
            amount = rng.random_range(0.0..2.0 * customer.mean);
        }
        let terminal = customer.terminals[rng.random_range(0..customer.terminals.len())];
        let mut cents = (amount * 100.0).round() as u32;
        let mut scenario = (cents > LIMIT_CENTS).then_some(Scenario::Amount);
        if self.terminal_safe[terminal as usize] > self.day {
            scenario = Some(Scenario::Terminal);
        }
        if self.card_safe[number] > self.day && rng.random_ratio(1, 3) {
            (cents, scenario) = (cents * 5, Some(Scenario::Card));
        }
        let ts = FIRST_DAY + self.day * DAY + seconds as i64 * 1_000 + rng.random_range(0..1_000);
        let offline = rng.random_ratio(1, OFFLINE_ONE_IN);
        let arrival = ts + rng.random_range(0..=if offline { OFFLINE_DELAY } else { MAX_DELAY });
        Some(Transaction { ts, arrival, customer: number as u32, terminal, cents, scenario })
    }
}

impl Iterator for Simulator {
    type Item = Transaction;

    fn next(&mut self) -> Option<Transaction> {
        loop {
            if let Some(transaction) = self.ready.next() {
                return Some(transaction);
            }
            self.simulate_day();
        }
    }
}

/// A Poisson number by Knuth's product of uniforms (The Art of Computer Programming, vol. 2, 3.4.1), right for small rates.
fn poisson(rng: &mut Xoshiro256PlusPlus, exp_rate: f64) -> u32 {
    let mut product: f64 = rng.random();
    let mut number = 0;
    while product > exp_rate {
        product *= rng.random::<f64>();
        number += 1;
    }
    number
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WORLD: World = World { customers: 1_000, terminals: 2_000, radius: 5.0, seed: 3 };

    /// The transactions of the first `days` days, by arrival.
    fn first_days(world: World, days: i64) -> Vec<Transaction> {
        let mut simulator = Simulator::new(world).unwrap();
        let mut all = Vec::new();
        while simulator.days() < days {
            simulator.simulate_day();
            all.extend(simulator.ready.by_ref());
        }
        all
    }

    #[test]
    fn the_seed_decides_the_stream() {
        let take = |seed| Simulator::new(World { seed, ..WORLD }).unwrap().take(20_000).collect::<Vec<_>>();
        assert_eq!(take(3), take(3));
        assert_ne!(take(3), take(4));
    }

    #[test]
    fn a_customer_makes_two_transactions_a_day_less_those_outside_the_day() {
        // 2 a day on average over U(0, 4); |N(0, 1)| < 2.16 in 96.9% of the draws.
        let days = 50;
        let rate = first_days(WORLD, days).len() as f64 / (WORLD.customers as f64 * days as f64);
        assert!((1.85..2.05).contains(&rate), "{rate} transactions per customer and day");
    }

    #[test]
    fn frauds_are_as_rare_as_the_scenarios_make_them() {
        // The handbook's population, whose share of frauds is just under 1%, after the 28 days that scenario 2 takes to build up.
        let world = World { customers: 5_000, terminals: 10_000, ..WORLD };
        let all = first_days(world, 60);
        let settled: Vec<_> = all.iter().filter(|transaction| transaction.ts >= FIRST_DAY + 28 * DAY).collect();
        let share = |scenario| settled.iter().filter(|t| t.scenario == Some(scenario)).count() as f64 / settled.len() as f64;
        let (amount, terminal, card) = (share(Scenario::Amount), share(Scenario::Terminal), share(Scenario::Card));
        assert!((0.000_3..0.001).contains(&amount), "scenario 1: {amount}");
        assert!((0.004..0.007).contains(&terminal), "scenario 2: {terminal}");
        assert!((0.001_8..0.004).contains(&card), "scenario 3: {card}");
    }

    #[test]
    fn whatever_is_over_the_limit_is_a_fraud_and_scenario_1_is_nothing_else() {
        for transaction in first_days(WORLD, 40) {
            assert!(transaction.cents <= LIMIT_CENTS || transaction.scenario.is_some(), "{transaction:?}");
            assert!(transaction.scenario != Some(Scenario::Amount) || transaction.cents > LIMIT_CENTS, "{transaction:?}");
        }
    }

    #[test]
    fn a_compromised_terminal_makes_only_frauds_and_a_leaked_card_a_third() {
        let mut simulator = Simulator::new(WORLD).unwrap();
        let (mut leaked, mut misused) = (0, 0);
        for day in 0..60 {
            simulator.simulate_day();
            let today = simulator.waiting.iter().chain(simulator.ready.as_slice());
            let is_own = |transaction: &&Transaction| transaction.scenario != Some(Scenario::Clone);
            for transaction in today.filter(is_own).filter(|transaction| (transaction.ts - FIRST_DAY) / DAY == day) {
                let compromised = simulator.terminal_safe[transaction.terminal as usize] > day;
                assert!(!compromised || matches!(transaction.scenario, Some(Scenario::Terminal | Scenario::Card)), "{transaction:?}");
                assert!(compromised || transaction.scenario != Some(Scenario::Terminal), "{transaction:?}");
                let exposed = simulator.card_safe[transaction.customer as usize] > day;
                assert!(exposed || transaction.scenario != Some(Scenario::Card), "{transaction:?}");
                leaked += u32::from(exposed);
                misused += u32::from(transaction.scenario == Some(Scenario::Card));
            }
            simulator.ready = Vec::new().into_iter();
        }
        let share = f64::from(misused) / f64::from(leaked);
        assert!((0.30..0.37).contains(&share), "{misused} of {leaked}");
    }

    #[test]
    fn a_clone_pays_all_over_the_map_within_two_hours() {
        let mut simulator = Simulator::new(WORLD).unwrap();
        let places = simulator.places.clone();
        let mut all = Vec::new();
        while simulator.days() < 30 {
            simulator.simulate_day();
            all.extend(simulator.ready.by_ref().filter(|transaction| transaction.scenario == Some(Scenario::Clone)));
        }
        assert!((30 * 3 * 3 - 6..=30 * 3 * 6).contains(&all.len()), "{} payments with clones", all.len());
        all.sort_by_key(|transaction| (transaction.customer, transaction.ts));
        let pairs = all.windows(2).filter(|pair| pair[0].customer == pair[1].customer && pair[1].ts - pair[0].ts < DAY / 2);
        let (mut far, mut near) = (0, 0);
        for pair in pairs {
            assert!(pair[1].ts - pair[0].ts < CLONE_TIME, "{pair:?}");
            let (a, b) = (places[pair[0].terminal as usize], places[pair[1].terminal as usize]);
            match (a.0 - b.0).hypot(a.1 - b.1) > 10.0 {
                true => far += 1,
                false => near += 1,
            }
        }
        assert!(far > 10 * near, "{far} of {}", far + near);
    }

    #[test]
    fn arrivals_are_in_order_and_all_but_a_few_within_the_delay() {
        let all = first_days(World { customers: 5_000, ..WORLD }, 40);
        assert!(all.is_sorted_by_key(|transaction| transaction.arrival));
        let delays = all.iter().map(|transaction| transaction.arrival - transaction.ts);
        assert!(delays.clone().all(|delay| (0..=OFFLINE_DELAY).contains(&delay)));
        let held = delays.filter(|&delay| delay > MAX_DELAY).count();
        assert!((10..100).contains(&held), "{held} of {} were held back", all.len());
    }

    #[test]
    fn customers_pay_where_they_can_go() {
        let simulator = Simulator::new(WORLD).unwrap();
        let reach: Vec<Vec<u32>> = simulator.customers.iter().map(|customer| customer.terminals.clone()).collect();
        for transaction in simulator.take(20_000).filter(|transaction| transaction.scenario != Some(Scenario::Clone)) {
            assert!(reach[transaction.customer as usize].contains(&transaction.terminal));
        }
    }

    #[test]
    fn a_world_without_payments_is_refused() {
        let error = Simulator::new(World { radius: 0.0, ..WORLD }).err().unwrap();
        assert!(error.starts_with("nobody could pay: 1000 customers, 2000 terminals within a radius of 0"), "{error}");
    }
}
