//! The client of schema registries, against `tests/services/registry`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::slice::from_ref;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thalweg::connector::kafka::{KafkaSink, Value};
use thalweg::connector::registry::{Reference, Registry, RegistryClient, SchemaKind, Version};
use thalweg::format::avro::{Avro, AvroWriter};
use thalweg::format::json_confluent::JsonConfluentWriter;
use thalweg::format::protobuf::{Protobuf, ProtobufWriter};
use thalweg::{Error, Format, Kind, Sink, millis};

const FIRST: &str = r#"{"type":"record","name":"Payment","fields":[{"name":"id","type":"int"}]}"#;
const SECOND: &str =
    r#"{"type":"record","name":"Payment","fields":[{"name":"card","type":"string","default":"?"},{"name":"id","type":"long"}]}"#;
const BREAKING: &str = r#"{"type":"record","name":"Payment","fields":[{"name":"shop","type":"string"}]}"#;

/// A registry for as long as the value lives.
struct Service {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    url: String,
    ca: Option<String>,
}

impl Service {
    fn start(options: &[&str]) -> Service {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services/registry");
        let mut command = Command::new(script);
        let mut process = command.arg("run").args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()).lines());
        let mut service = Service { process, input, output, url: String::new(), ca: None };
        loop {
            let line = service.output.next().unwrap().unwrap();
            match line.split_once('=') {
                Some(("url", url)) => service.url = url.to_owned(),
                Some((_, ca)) => service.ca = Some(ca.to_owned()),
                None => return service,
            }
        }
    }

    fn tell(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.output.next().unwrap().unwrap()
    }

    fn registry(&self) -> Registry {
        Registry::new(&self.url)
    }

    fn client(&self) -> RegistryClient {
        self.registry().client().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.wait();
    }
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("card", DataType::Utf8, true)]))
}

/// Rows of messages, and what is bad about the others by their place.
type Rows = (Option<RecordBatch>, Vec<(usize, String)>);

/// What records bring, and what is bad about the others.
fn decode(client: &RegistryClient, records: &[Vec<u8>]) -> Result<Rows, Error> {
    let mut messages = Format::Avro(Avro::confluent(client.clone())).messages(&columns())?.unwrap();
    let mut ends = vec![0];
    records.iter().for_each(|record| ends.push(ends.last().unwrap() + record.len()));
    let (ranges, mut bad): (Vec<_>, _) = (ends.windows(2).map(|pair| pair[0]..pair[1]).collect(), Vec::new());
    messages.decode(&records.concat(), &ranges, &mut bad)?;
    Ok((messages.take()?, bad))
}

fn record(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}

#[test]
fn records_are_read_by_the_schemas_that_they_name() {
    let mut service = Service::start(&[]);
    let client = service.client();
    let first = client.register("payments-value", FIRST, SchemaKind::Avro).unwrap();
    let second = client.register("payments-value", SECOND, SchemaKind::Avro).unwrap();
    assert_eq!(client.register("payments-value", SECOND, SchemaKind::Avro).unwrap(), second, "once is enough");
    service.tell("asked");
    let records =
        [record(first, &[2]), record(second, &[2, b'c', 4]), record(99, &[0]), record(first, &[6]), record(second, &[2, b'd', 8])];
    for asked in ["3", "1"] {
        let (rows, bad) = decode(&client, &records).unwrap();
        let rows = rows.unwrap();
        assert_eq!(rows["id"].as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        assert_eq!(rows["card"].as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("c"), None, Some("d")]);
        assert_eq!(bad, [(2, "schema 99 of the record is not known".to_owned())]);
        assert_eq!(service.tell("asked"), asked, "each known schema is asked for once");
    }
    let latest = client.version("payments-value", Version::Latest).unwrap();
    assert_eq!((latest.id, latest.version, latest.schema.as_str()), (second, 2, SECOND));
    assert_eq!(client.version("payments-value", Version::Number(1)).unwrap().id, first);
}

fn reference(name: &str, subject: &str, version: u32) -> Reference {
    Reference { name: name.to_owned(), subject: subject.to_owned(), version }
}

#[test]
fn schemas_of_avro_are_given_with_what_they_refer_to() {
    let mut service = Service::start(&[]);
    let client = service.client();
    let currency = r#"{"type":"enum","name":"Currency","namespace":"shop.common","symbols":["EUR","USD"]}"#;
    let money = r#"{"type":"record","name":"Money","namespace":"shop.common","fields":[
        {"name":"cents","type":"long"},{"name":"currency","type":"Currency"}]}"#;
    let payment = r#"{"type":"record","name":"Payment","namespace":"shop","fields":[{"name":"id","type":"int"},
        {"name":"price","type":"shop.common.Money"},{"name":"tax","type":["null","shop.common.Money"]},{"name":"paid_in","type":"shop.common.Currency"}]}"#;
    let of_currency = [reference("shop.common.Currency", "currency", 1)];
    let of_both = [reference("shop.common.Money", "money", 1), of_currency[0].clone()];
    let register =
        |subject, schema, references: &[Reference]| client.register_with_references(subject, schema, SchemaKind::Avro, references);
    let error = register("money", money, &of_currency).unwrap_err();
    assert!(error.kind() == Kind::Schema && error.to_string().contains("No schema reference found"), "{error}");
    register("currency", currency, &[]).unwrap();
    register("money", money, &of_currency).unwrap();
    let id = register("payments-value", payment, &of_both).unwrap();
    let lacking = register("lacking", payment, &of_currency).unwrap();
    let other = register("other", &payment.replace("\"Payment\"", "\"Other\""), &of_both).unwrap();
    let beside = client.compatibility_with_references("payments-value", Version::Latest, payment, SchemaKind::Avro, &of_both).unwrap();
    assert!(beside.is_compatible);
    service.tell("asked");
    let latest = client.version("payments-value", Version::Latest).unwrap();
    assert_eq!(service.tell("asked"), "3", "one question for each schema");
    assert_eq!(client.schema(id).unwrap().as_deref(), Some(latest.schema.as_str()));
    let expected = Avro::bare(&latest.schema).columns().unwrap().unwrap();
    assert_eq!(expected.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id", "price", "tax", "paid_in"]);
    // Payment 7 of 1.50 EUR, with a tax of 0.20 USD, paid in EUR.
    let body = [14, 0xAC, 2, 0, 2, 40, 2, 0];
    let records = [record(id, &body), record(lacking, &body), record(other, &body)];
    let (rows, bad) = decode(&client, &records).unwrap();
    assert_eq!(rows.unwrap()["id"].as_primitive::<Int64Type>().values(), &[7, 7]);
    let why = format!("schema {lacking}: the schema registry at {}: schema {lacking} and what it refers to: ", service.url);
    assert!(bad.len() == 1 && bad[0].0 == 1 && bad[0].1.starts_with(&why), "{bad:?}");
    assert!(bad[0].1.ends_with("uses the type `shop.common.Money`, which neither it nor what it refers to defines"), "{bad:?}");
    assert_eq!(service.tell("asked"), "3", "each is asked for once, and so is what they refer to");
    // By a reader's schema that refers to others too, whose columns are those of the latest.
    let mut messages = Format::Avro(Avro::confluent(client.clone()).reader_schema(&latest.schema)).messages(&expected).unwrap().unwrap();
    messages.decode(&records[0], from_ref(&(0..records[0].len())), &mut Vec::new()).unwrap();
    let rows = messages.take().unwrap().unwrap();
    let (price, tax) = (rows["price"].as_struct(), rows["tax"].as_struct());
    assert_eq!(price.column(0).as_primitive::<Int64Type>().values(), &[150]);
    assert_eq!(tax.column(0).as_primitive::<Int64Type>().values(), &[20]);
}

#[test]
fn what_is_referred_to_and_is_not_there_quarantines_what_refers_to_it() {
    let mut service = Service::start(&[]);
    let client = service.client();
    let payment = r#"{"type":"record","name":"Payment","fields":[{"name":"id","type":"int"},{"name":"of","type":"Of"}]}"#;
    let id = client.register("payments-value", payment, SchemaKind::Avro).unwrap();
    // Registries do not let what is referred to go, nor let a schema refer to itself; the double of one is told to.
    for (line, says) in [
        ("refer payments-value money 3", "does not have version 3 of subject `money`, which schema 1 refers to as `Of`,"),
        ("refer payments-value payments-value 1", "version 1 of subject `payments-value` refers to itself, over payments-value"),
    ] {
        service.tell(line);
        let asking = service.client();
        let (rows, bad) = decode(&asking, &[record(id, &[2, 2])]).unwrap();
        assert!(rows.is_none() && bad.len() == 1 && bad[0].1.contains(says), "{bad:?}");
        let error = asking.version("payments-value", Version::Latest).unwrap_err();
        assert!(error.kind() == Kind::Schema && !error.is_retriable(), "{error}");
    }
}

/// A field of a message in Protobuf's wire format whose value has a length.
fn part(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2, value.len() as u8], value].concat()
}

/// The file of a package with one message, `Payment`, of two fields: an `int64` and a string.
fn proto_file(names: [&str; 2]) -> String {
    let field = |name: &str, number, kind| part(2, &[&part(1, name.as_bytes())[..], &[3 << 3, number, 4 << 3, 1, 5 << 3, kind]].concat());
    let message = [part(1, b"Payment"), field(names[0], 1, 3), field(names[1], 2, 9)].concat();
    STANDARD.encode([part(1, b"shop.proto"), part(2, b"shop"), part(4, &message), part(12, b"proto3")].concat())
}

#[test]
fn protocol_buffers_are_read_by_the_file_of_their_subject() {
    let service = Service::start(&[]);
    let client = service.client();
    client.register("payments-value", &proto_file(["id", "note"]), SchemaKind::Protobuf).unwrap();
    client.register("payments-value", &proto_file(["id", "card"]), SchemaKind::Protobuf).unwrap();
    let set = client.descriptor_set("payments-value", Version::Latest).unwrap();
    let format = Format::Protobuf(Protobuf::first(&set).unwrap().confluent().unwrap());
    assert_eq!(format.columns().unwrap().unwrap().field(1).name(), "card");
    let mut messages = format.messages(&columns()).unwrap().unwrap();
    // The second is of an older version, the third of the second message of its file.
    let records = [record(2, b"\0\x08\x05\x12\x01c"), record(1, b"\0\x08\x06"), record(2, b"\x02\x02\x08\x07")];
    let ends: Vec<usize> = (0..=3).map(|count| records[..count].iter().map(Vec::len).sum()).collect();
    let (ranges, mut bad): (Vec<_>, _) = (ends.windows(2).map(|pair| pair[0]..pair[1]).collect(), Vec::new());
    messages.decode(&records.concat(), &ranges, &mut bad).unwrap();
    let rows = messages.take().unwrap().unwrap();
    assert_eq!(rows["id"].as_primitive::<Int64Type>().values(), &[5, 6]);
    assert_eq!(rows["card"].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("c"), Some("")]);
    assert!(bad.len() == 1 && bad[0].0 == 2, "{bad:?}");
    client.register("text-value", "syntax = \"proto3\"; message M {}", SchemaKind::Protobuf).unwrap();
    let error = client.descriptor_set("text-value", Version::Latest).unwrap_err();
    assert!(error.kind() == Kind::Schema && error.to_string().contains("does not compile"), "{error}");
    client.register("avro-value", FIRST, SchemaKind::Avro).unwrap();
    let error = client.descriptor_set("avro-value", Version::Latest).unwrap_err();
    assert!(error.to_string().contains("in AVRO; its records are no protocol buffers"), "{error}");
}

#[test]
fn incompatible_schemas_are_refused() {
    let service = Service::start(&[]);
    let client = service.client();
    client.register("a subject / with signs", FIRST, SchemaKind::Avro).unwrap();
    let ask = |schema| client.compatibility("a subject / with signs", Version::Latest, schema, SchemaKind::Avro).unwrap();
    assert!(ask(SECOND).is_compatible);
    let breaking = ask(BREAKING);
    assert!(!breaking.is_compatible && breaking.messages[0].contains("shop"), "{breaking:?}");
    let error = client.register("a subject / with signs", BREAKING, SchemaKind::Avro).unwrap_err();
    assert!(error.kind() == Kind::Schema && error.to_string().contains("as incompatible"), "{error}");
    let error = client.register("another", "{", SchemaKind::Avro).unwrap_err();
    assert!(error.kind() == Kind::Schema && error.to_string().contains("cannot read a schema for subject `another`"), "{error}");
    for (subject, version) in [("unknown", Version::Latest), ("a subject / with signs", Version::Number(7))] {
        let error = client.version(subject, version).unwrap_err();
        assert!(error.to_string().contains(&format!("does not have version {version} of subject `{subject}`")), "{error}");
        assert!(!error.is_retriable());
    }
}

#[test]
fn what_is_written_by_is_registered_or_found() {
    let mut service = Service::start(&[]);
    let client = service.client();
    // Schemas are settled before the broker is looked for, which is not there.
    let open = |columns: &Schema, value: Value| {
        let sink = KafkaSink::new("127.0.0.1:1", "payments").set("socket.timeout.ms", "200").value(value);
        let mut sink = sink;
        sink.open(&Arc::new(columns.clone())).unwrap_err()
    };
    let avro = || AvroWriter::confluent(client.clone());
    let nobody = open(&columns(), Value::Avro(avro().auto_register(false))).to_string();
    assert!(nobody.contains("does not have version latest of subject `payments-value`"), "{nobody}");
    let error = open(&columns(), Value::Avro(avro()));
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    let latest = client.version("payments-value", Version::Latest).unwrap();
    assert!(latest.schema.contains(r#""default":null"#), "{}", latest.schema);
    open(&columns(), Value::Avro(avro()));
    assert_eq!(client.version("payments-value", Version::Latest).unwrap(), latest, "once is enough");
    // A column that may be null can come later; one that may not cannot.
    let with = |is_nullable: bool| {
        let more = Field::new("shop", DataType::Utf8, is_nullable);
        Schema::new(columns().fields().iter().cloned().chain([Arc::new(more)]).collect::<Vec<_>>())
    };
    let error = open(&with(false), Value::Avro(avro()));
    assert!(error.kind() == Kind::Schema && error.to_string().contains("as incompatible") && error.to_string().contains("shop"), "{error}");
    open(&with(true), Value::Avro(avro()));
    assert_eq!(client.version("payments-value", Version::Latest).unwrap().version, 2);
    // What is not to be registered has to be there, and of the right kind.
    let known = open(&columns(), Value::Avro(avro().schema(&latest.schema).auto_register(false)));
    assert!(known.to_string().contains("127.0.0.1:1"), "{known}");
    let unknown = open(&columns(), Value::Avro(avro().schema(latest.schema.replace("payments", "other")).auto_register(false)));
    let says = "does not have this schema under subject `payments-value`, and it is not to be registered";
    assert!(unknown.kind() == Kind::Schema && unknown.to_string().contains(says), "{unknown}");
    let json = || JsonConfluentWriter::new(client.clone());
    let other = open(&columns(), Value::JsonConfluent(json().auto_register(false)));
    assert!(other.kind() == Kind::Schema && other.to_string().contains("in AVRO, and records are to be JSON"), "{other}");
    open(&columns(), Value::JsonConfluent(json().subject("objects")));
    let made = client.version("objects", Version::Latest).unwrap();
    assert!(made.id == 3 && made.schema.contains(r#""additionalProperties":false"#), "{made:?}");
    service.tell("fail 9");
    let error = open(&columns(), Value::Avro(avro()));
    assert!(error.is_retriable() && error.to_string().contains("not now"), "{error}");
}

#[test]
fn files_of_protocol_buffers_are_registered_or_found() {
    let service = Service::start(&[]);
    let client = service.client();
    let set = |file: &str| part(1, &STANDARD.decode(file).unwrap());
    let payments = |file: &str| Protobuf::new(&set(file), "shop.Payment").unwrap();
    let open = |writer: ProtobufWriter| {
        let sink = KafkaSink::new("127.0.0.1:1", "payments").set("socket.timeout.ms", "200").value(Value::Protobuf(writer));
        let mut sink = sink;
        sink.open(&columns()).unwrap_err()
    };
    let file = proto_file(["id", "card"]);
    let writer = || ProtobufWriter::confluent(payments(&file), client.clone());
    let unknown = open(writer().auto_register(false));
    let says = "does not have this schema under subject `payments-value`, and it is not to be registered";
    assert!(unknown.kind() == Kind::Schema && unknown.to_string().contains(says), "{unknown}");
    // What the columns are no fields of is not registered.
    let other = open(ProtobufWriter::confluent(payments(&proto_file(["id", "note"])), client.clone()));
    assert!(other.to_string().contains("column `card` is no field of message `shop.Payment`, which has id, note"), "{other}");
    assert!(client.version("payments-value", Version::Latest).is_err());
    for writer in [writer(), writer(), writer().auto_register(false)] {
        let error = open(writer);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
        let latest = client.version("payments-value", Version::Latest).unwrap();
        assert_eq!((latest.version, latest.schema.as_str()), (1, file.as_str()), "once is enough");
    }
    open(writer().subject("other"));
    assert_eq!(client.version("other", Version::Latest).unwrap().schema, file);
    // What is registered is what is read by.
    assert_eq!(client.descriptor_set("payments-value", Version::Latest).unwrap(), set(&file));
}

#[test]
fn a_registry_that_is_down_is_asked_again_and_then_an_error_to_retry() {
    let mut service = Service::start(&[]);
    let client = service.client();
    let id = client.register("s", FIRST, SchemaKind::Avro).unwrap();
    service.tell("fail 2");
    service.tell("asked");
    assert!(decode(&client, &[record(id, &[2])]).unwrap().0.is_some(), "the third try");
    assert_eq!(service.tell("asked"), "3");
    let other = service.registry().retries(1).client().unwrap();
    service.tell("mute 2");
    let error = decode(&other, &[record(id, &[2])]).unwrap_err();
    assert!(error.is_retriable() && error.kind() == Kind::Connector, "{error:?}");
    assert_eq!(service.tell("asked"), "2", "bounded");
    service.tell("fail 9");
    let error = decode(&other, &[record(id, &[2])]).unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("not now"), "{error}");
    service.tell("fail 0");
    service.tell("down");
    let error = decode(&other, &[record(id, &[2])]).unwrap_err();
    let expected = format!("the schema registry at {} about schema {id}: it cannot be reached; is it running", service.url);
    assert!(error.is_retriable() && error.to_string().starts_with(&expected), "{error}");
    assert!(decode(&client, &[record(id, &[2])]).unwrap().0.is_some(), "what is known needs no registry");
    service.tell("up");
    assert!(decode(&other, &[record(id, &[2])]).unwrap().0.is_some());
    let slow = service.registry().retries(0).timeout(millis(1)).client();
    assert!(slow.is_ok(), "nothing is sent before something is asked");
}

#[test]
fn who_is_let_in_and_secrets_stay_secret() {
    let service = Service::start(&["--user", "alice", "--password", "wonderland", "--token", "t0ken"]);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wonderland\n").unwrap();
    let alice = service.registry().basic_auth("alice", format!("file:{}", secret.display())).client().unwrap();
    alice.register("s", FIRST, SchemaKind::Avro).unwrap();
    assert!(service.registry().bearer_token("t0ken").client().unwrap().version("s", Version::Latest).is_ok());
    for refused in [service.registry(), service.registry().basic_auth("alice", "hunter2"), service.registry().bearer_token("hunter2")] {
        let error = refused.client().unwrap().version("s", Version::Latest).unwrap_err();
        assert!(error.to_string().contains("does not let us in (status 401)") && !error.is_retriable(), "{error}");
        assert!(!format!("{error:?} {refused:?}").contains("hunter2"));
    }
    for (registry, says) in [
        (service.registry().bearer_token("env:THALWEG_NO_SUCH_VARIABLE"), "THALWEG_NO_SUCH_VARIABLE"),
        (Registry::new("http://alice:hunter2@localhost"), "credentials"),
        (Registry::new("ftp://localhost"), "must be http or https"),
        (Registry::new("localhost"), "the URL cannot be read"),
        (Registry::new("https://localhost").ca_certificate(&secret), "does not hold certificates"),
        (Registry::new("https://localhost").ca_certificate("/no/such/file"), "/no/such/file"),
    ] {
        let error = registry.client().unwrap_err();
        assert!(error.kind() == Kind::Config && error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn tls_with_a_certificate_of_ones_own() {
    let service = Service::start(&["--tls"]);
    let ca = service.ca.clone().unwrap();
    let client = service.registry().ca_certificate(ca).client().unwrap();
    assert_eq!(client.register("s", FIRST, SchemaKind::Avro).unwrap(), 1);
    let error = service.registry().retries(0).client().unwrap().version("s", Version::Latest).unwrap_err();
    assert!(error.to_string().contains("cannot be reached") && error.to_string().contains("ertificate"), "{error}");
}
