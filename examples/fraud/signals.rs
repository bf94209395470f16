//! What tells a fraud: detectors one after the other, each of which adds a column, and the risk that they make together.

use std::fmt;

use thalweg::operator::detect::{Detector, DetectorSpec, HalfSpaceTrees, ImpossibleTravel, Limit, Observations, Profile, Told};
use thalweg::state::{Reader, Writer};
use thalweg::time::Unit;
use thalweg::{Detection, Stream, hours, velocity};

/// The columns that are added, the last of which is made of the others.
pub const NAMES: [&str; 7] = ["habits", "spending", "speed", "travel", "strange", "forest", "risk"];

/// The share of transactions that somebody can look at.
pub const ALERTS: f64 = 0.01;

/// A unit of the map is a kilometre; it lies in Europe's middle.
const PLACE: [(&str, &str); 2] = [("lat", "50 + y / 111.2"), ("lon", "8 + x / 71.5")];

/// The columns of a transaction that are kept.
const TRANSACTION: [&str; 9] = ["ts", "id", "card", "terminal", "amount", "x", "y", "lat", "lon"];

/// How much of a surprise counts when a card's strange payments are added up: what is below happens to every card.
const STRANGE: &str = "CASE WHEN spending > 1.5 THEN spending - 1.5 ELSE 0 END";

/// A surprise that is one because there is too much of something.
const ABOVE: &str = "CASE WHEN attribution > 0 THEN score ELSE 0 END";

/// The risk, in powers of ten as the surprises. What cannot be counts more than what is unusual, a card that was strange of late is likelier to be in other
/// hands, and a large payment is a large loss.
const RISK: &str = "spending + 0.2 * habits + 2 * forest + amount / 50 \
    + CASE WHEN strange < 1 THEN 2 * strange ELSE 2 END \
    + CASE WHEN travel < 1 THEN 15 * travel ELSE 15 END \
    + CASE WHEN speed >= 1 THEN 1 ELSE 0 END \
    + CASE WHEN amount > 220 THEN 20 ELSE 0 END";

/// Adds `habits`, `speed`, `travel`, `strange`, `forest` and `risk` to transactions.
///
/// The parameters were chosen on another seed than those that the demo and the tests run on.
pub fn signals(payments: &Stream) -> Stream {
    let mut columns: Vec<String> = TRANSACTION.map(str::to_owned).to_vec();
    let mut stream = payments.with_columns(PLACE);
    let mut add = |stream: &Stream, name: &str, detection: Detection, score: &str| {
        let scored = stream.detect(detection).select(columns.iter().cloned().chain([format!("{score} AS {name}")]));
        columns.push(name.to_owned());
        scored
    };
    // How unlike the card's own history: amount, hour, terminal, place.
    let place = Some(("lat".to_owned(), "lon".to_owned()));
    let habits = Profile { names: vec!["terminal".to_owned()], place, near: 3.0, ..Profile::default() };
    stream = add(&stream, NAMES[0], Detection::new(habits).on(["amount", "terminal", "lat", "lon"]).by(["card"]), "score");
    // The amount alone, which the other habits must not drown.
    let spending = Profile { hours: false, ..Profile::default() };
    stream = add(&stream, NAMES[1], Detection::new(spending).on(["amount"]).by(["card"]).with_attribution(), ABOVE);
    // How often, and how much, within hours.
    let limits = [Limit::rows(3, hours(1)), Limit::rows(4, hours(2)), Limit::rows(10, hours(24)), Limit::sum(1_000.0, hours(24))];
    stream = add(&stream, NAMES[2], velocity(limits).on(["amount"]).by(["card"]), "score");
    // How fast from shop to shop: by car through towns. Nobody here shops farther apart than 10 km.
    let by_car = ImpossibleTravel { most_speed: 60.0, tolerance: 10.0 };
    stream = add(&stream, NAMES[3], Detection::new(by_car).on(["lat", "lon"]).by(["card"]), "score");
    // How strange the card's payments of the latest two weeks were, all together.
    stream = stream.with_columns([("surplus", STRANGE)]);
    stream = add(&stream, NAMES[4], velocity([Limit::sum(20.0, hours(24 * 14))]).on(["surplus"]).by(["card"]), "score");
    // Which of all cards' payments differ from all others: a forest over what the detectors say.
    let forest = HalfSpaceTrees { number_of_trees: 10, window_size: 1_000, ..HalfSpaceTrees::default() };
    let on = ["habits", "spending", "speed", "travel", "strange"];
    stream = add(&stream, NAMES[5], Detection::new(forest).on(on).with_p(), "0 - log10(p)");
    stream.with_columns([(NAMES[6], RISK)])
}

/// Makes alerts of the riskiest transactions, [`ALERTS`] of all: adds `score`, `p`, `is_anomaly` and `over_limit`.
pub fn decided(signals: &Stream) -> Stream {
    let decided = signals.detect(Detection::new(Itself).on(["risk"]).false_alarm_rate(ALERTS));
    decided.with_columns([("over_limit", "amount > 220")])
}

/// A detector whose score is the value itself, at least 0: for numbers that are scores already.
#[derive(Debug)]
struct Itself;

impl fmt::Display for Itself {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("itself()")
    }
}

impl DetectorSpec for Itself {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> thalweg::Result<Box<dyn Detector>> {
        Ok(Box::new(Itself))
    }
}

impl Detector for Itself {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) -> thalweg::Result<()> {
        scores.iter_mut().zip(observations.values()).for_each(|(score, value)| *score = value.map_or(f64::NAN, |value| value.max(0.0)));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        0
    }

    fn save(&self, _slot: u32, _out: &mut Writer) -> thalweg::Result<()> {
        Ok(())
    }

    fn load(&mut self, _slot: u32, _from: &mut Reader<'_>) -> thalweg::Result<()> {
        Ok(())
    }
}
