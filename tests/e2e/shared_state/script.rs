//! The script on a real server does what its model in Rust does, which the properties of leases are checked against. Its clock and its run are
//! read from two keys instead of from the server, so that both can be set; nothing else of it is changed.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Data, Message, Reply, Store as Model, Told};
use super::store::{Kept, Store};

const SCRIPT: &str = include_str!("../../../src/state/budgets/shared/script.lua");
/// Far in the future of the server's own clock, so that no key expires before its time.
const START: u64 = 4_000_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Message {
        account: u8,
        holder: u8,
        number: u64,
        kind: u8,
        want: u64,
        claims: Vec<(u64, u64)>,
        of_now: bool,
    },
    Look,
    Pass(u64),
    Back(u64),
    Run(u8),
    Empty,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let claims = vec((0..70u64, 0..500u64), 0..4);
    let message = (0..2u8, 0..3u8, 1..40u64, 0..3u8, 0..600u64, claims, prop::bool::weighted(0.95)).prop_map(
        |(account, holder, number, kind, want, claims, of_now)| Step::Message {
            account,
            holder,
            number,
            kind,
            want,
            claims,
            of_now,
        },
    );
    let step = prop_oneof![
        12 => message,
        1 => Just(Step::Look),
        4 => prop_oneof![0..2_000u64, 0..90_000u64, 0..8_000_000u64].prop_map(Step::Pass),
        1 => (0..100_000u64).prop_map(Step::Back),
        1 => (0..3u8).prop_map(Step::Run),
        1 => Just(Step::Empty),
    ];
    vec(step, 1..60)
}

/// Budget and window: one of them changes between replicas, and in time.
const TERMS: [(u64, u64); 3] = [(1000, 60_000), (700, 3_600_000), (1000, 61_007)];

struct Real {
    connection: redis::Connection,
    script: String,
}

impl Real {
    fn new(store: &Store) -> Self {
        let client = redis::Client::open(store.url()).expect("a URL");
        let mut script = SCRIPT.to_owned();
        for (reads, instead) in [
            ("redis.call('TIME')", "{redis.call('GET', '{t}s'), redis.call('GET', '{t}u')}"),
            ("redis.call('INFO', 'server')", "'run_id:' .. redis.call('GET', '{t}run')"),
        ] {
            assert_eq!(script.matches(reads).count(), 1, "{reads}");
            script = script.replace(reads, instead);
        }
        Real { connection: client.get_connection().expect("a connection"), script }
    }

    fn set(&mut self, model: &Model) {
        let (seconds, micros) = (model.clock / 1000, model.clock % 1000 * 1000);
        let mut set = redis::cmd("MSET");
        set.arg("{t}s").arg(seconds).arg("{t}u").arg(micros).arg("{t}run").arg(&model.run);
        set.query::<()>(&mut self.connection).expect("set");
    }

    fn run(&mut self, account: &str, settle: u64, message: Option<&Message>) -> Reply {
        let mut eval = redis::cmd("EVAL");
        eval.arg(&self.script);
        match message {
            None => eval.arg(1).arg("{t}mark").arg(settle),
            Some(message) => {
                eval.arg(2).arg("{t}mark").arg(format!("{{t}}{account}"));
                eval.arg(settle).arg(&message.epoch).arg(&message.holder).arg(message.number);
                eval.arg(message.budget).arg(message.window).arg(message.want);
                for (ends, bytes) in &message.claims {
                    eval.arg(ends).arg(bytes);
                }
                &mut eval
            }
        };
        let value: redis::Value = eval.query(&mut self.connection).expect("an answer");
        let redis::Value::Array(parts) = value else { panic!("{value:?}") };
        let number = |at: usize| match &parts[at] {
            redis::Value::Int(number) => u64::try_from(*number).expect("not negative"),
            other => panic!("{other:?}"),
        };
        let redis::Value::BulkString(id) = &parts[0] else { panic!("{parts:?}") };
        let answer = match parts.len() {
            3 => Told::Nothing,
            4 => Told::Late,
            _ => Told::Granted(number(3), number(4), number(5)),
        };
        let id = String::from_utf8(id.clone()).expect("text");
        Reply { id, now: number(1), settles: number(2), answer }
    }
}

#[test]
fn the_script_does_what_its_model_does() {
    let store = Store::start(Kept::Nothing);
    let real = RefCell::new(Real::new(&store));
    proptest!(ProptestConfig::with_cases(200), |(steps in steps())| {
        let mut real = real.borrow_mut();
        let _ = store.ask(&["FLUSHALL"]);
        let mut model = Model { clock: START, run: "aa".to_owned(), settle: 3_000, ..Model::default() };
        for step in steps {
            real.set(&model);
            match step {
                Step::Pass(millis) => model.clock += millis,
                Step::Back(millis) => model.clock -= millis,
                Step::Run(run) => model.run = ["aa", "bb", "cc"][usize::from(run)].to_owned(),
                Step::Empty => {
                    model.data = Data::default();
                    let _ = store.ask(&["FLUSHALL"]);
                }
                Step::Look => prop_assert_eq!(real.run("", model.settle, None), model.run("", None)),
                Step::Message { account, holder, number, kind, want, claims, of_now } => {
                    let epoch = model.run("", None).id;
                    prop_assert_eq!(&real.run("", model.settle, None).id, &epoch);
                    let (budget, window) = TERMS[usize::from(kind)];
                    let step = window.div_ceil(60);
                    let claims = claims.into_iter().map(|(ago, bytes)| {
                        let ends = (model.clock / step + 1) * step - (ago * step).min(window * 2);
                        (ends, bytes)
                    });
                    let message = Message {
                        epoch: if of_now { epoch } else { "other".to_owned() },
                        holder: format!("h{holder}"),
                        number,
                        budget,
                        window,
                        want,
                        claims: claims.collect(),
                    };
                    let account = format!("a{account}");
                    let expected = model.run(&account, Some(&message));
                    prop_assert_eq!(real.run(&account, model.settle, Some(&message)), expected);
                }
            }
        }
    });
}
