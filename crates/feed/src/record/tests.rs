//! Every column comes back, and damage is named.

use chrono::TimeZone;
use rdkafka::{message::OwnedMessage, message::ToBytes};

use super::*;

fn at(micros: i64) -> DateTime<Utc> {
    Utc.timestamp_micros(micros).unwrap()
}

fn event() -> StoredEvent {
    StoredEvent {
        tenant: 7,
        position: 42,
        stream: "order-0192".to_owned(),
        version: 3,
        kind: "OrderPlaced".to_owned(),
        schema_version: 1,
        data: r#"{"total": 1200, "currency": "GBP"}"#.to_owned(),
        meta: r#"{"actor": "backend"}"#.to_owned(),
        occurred_at: at(1_291_189_560_000_001),
        recorded_at: at(1_795_372_800_123_456),
        mac: (0..33).collect(),
    }
}

fn record_of(event: &StoredEvent, incarnation: Uuid) -> OwnedMessage {
    let headers = encode(&FeedEvent::of("main", incarnation, event));
    OwnedMessage::new(
        Some(event.data.as_bytes().to_vec()),
        Some(b"main".to_vec()),
        "topic".to_owned(),
        event.recorded_at.timestamp_millis().into(),
        0,
        0,
        Some(headers.unwrap()),
    )
}

fn round_trip(event: &StoredEvent) -> StoredEvent {
    decode(&record_of(event, Uuid::nil()), |e| e.to_stored(7)).unwrap()
}

/// The same record with one header changed, or without it.
fn damaged(name: &str, value: Option<&[u8]>) -> Result<(), RecordError> {
    let record = record_of(&event(), Uuid::nil());
    let mut headers = OwnedHeaders::new();
    for header in record.headers().unwrap().iter() {
        let value = if header.key == name { value } else { header.value };
        if let Some(value) = value {
            headers = headers.insert(Header { key: header.key, value: Some(value) });
        }
    }
    decode(&record.replace_headers(Some(headers)), |_| ())
}

#[test]
fn every_column_comes_back() {
    assert_eq!(round_trip(&event()), event());
    let incarnation = Uuid::from_u128(0x1234_5678_9abc_def0);
    let record = record_of(&event(), incarnation);
    decode(&record, |e| {
        assert_eq!((e.tenant, e.incarnation), ("main", incarnation));
    })
    .unwrap();
}

#[test]
fn unicode_and_long_values_come_back() {
    let long = format!(r#"{{"text": "{}"}}"#, "ü€𝄞\\u0001 ".repeat(50_000));
    let odd = StoredEvent {
        stream: "product-Größe 🦀".to_owned(),
        data: long.clone(),
        meta: long,
        ..event()
    };
    assert_eq!(round_trip(&odd), odd);
}

#[test]
fn the_largest_and_smallest_numbers_come_back() {
    let largest = StoredEvent {
        position: i64::MAX,
        version: i32::MAX,
        schema_version: i16::MAX,
        occurred_at: at(253_402_300_799_999_999),
        mac: vec![255; 33],
        ..event()
    };
    assert_eq!(round_trip(&largest), largest);
    let smallest = StoredEvent {
        position: 1,
        version: 1,
        schema_version: 1,
        occurred_at: at(-62_135_596_800_000_000),
        recorded_at: at(0),
        data: "{}".to_owned(),
        meta: "{}".to_owned(),
        ..event()
    };
    assert_eq!(round_trip(&smallest), smallest);
}

#[test]
fn times_are_written_as_rfc_3339_does() {
    for micros in [0, 1, 999_999, 1_795_372_800_123_456, -1, -62_135_596_800_000_000] {
        let expected = at(micros).to_rfc3339_opts(SecondsFormat::Micros, true);
        assert_eq!(time_text(&mut String::new(), at(micros)).unwrap(), expected);
    }
    let far = Utc.with_ymd_and_hms(10_000, 1, 1, 0, 0, 0).unwrap();
    assert_eq!(time_text(&mut String::new(), far).unwrap_err(), "RFC 3339 has no year 10000");
}

#[test]
fn headers_are_those_of_cloudevents() {
    let record = record_of(&event(), Uuid::nil());
    let headers: Vec<_> = record
        .headers()
        .unwrap()
        .iter()
        .map(|h| (h.key, String::from_utf8(h.value.unwrap().to_bytes().to_vec()).unwrap()))
        .collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "main/42"),
        ("ce_source", "/daybook/main"),
        ("ce_type", "OrderPlaced"),
        ("ce_time", "2026-11-22T18:40:00.123456Z"),
        ("ce_subject", "order-0192"),
        ("content-type", "application/json"),
        ("ce_tenant", "main"),
        ("ce_position", "42"),
        ("ce_streamversion", "3"),
        ("ce_schemaversion", "1"),
        ("ce_incarnation", "00000000-0000-0000-0000-000000000000"),
        ("ce_mac", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"),
        ("ce_occurredat", "2010-12-01T07:46:00.000001Z"),
        ("ce_meta", r#"{"actor": "backend"}"#),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
    // CloudEvents 1.0.2, "Attribute Naming Convention".
    for (name, _) in headers {
        let attribute = name.strip_prefix("ce_").unwrap_or("datacontenttype");
        assert!(attribute.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert!(attribute.len() <= 20);
    }
}

#[test]
fn a_missing_header_is_named() {
    for name in HEADER_NAMES {
        let expected = if name == "ce_source" { Ok(()) } else { Err(RecordError::Missing(name)) };
        assert_eq!(damaged(name, None), expected, "{name}");
    }
}

#[test]
fn a_damaged_header_is_named() {
    for (name, value) in [
        ("ce_specversion", "0.3"),
        ("ce_id", "main/41"),
        ("ce_id", "main42"),
        ("ce_time", "yesterday"),
        ("content-type", "text/plain"),
        ("ce_position", "0"),
        ("ce_position", "+42"),
        ("ce_position", "9223372036854775808"),
        ("ce_streamversion", "-1"),
        ("ce_schemaversion", "32768"),
        ("ce_incarnation", "x"),
        ("ce_mac", "00"),
        ("ce_mac", "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"),
        ("ce_occurredat", "2010-13-01T07:46:00Z"),
        ("ce_meta", "null"),
    ] {
        let error = damaged(name, Some(value.as_bytes())).unwrap_err();

        assert!(error.to_string().contains(name), "{name}={value}: {error}");
    }
    assert!(damaged("ce_type", Some(&[0xff])).is_err());
}

#[test]
fn a_header_given_twice_is_refused() {
    let mut record = record_of(&event(), Uuid::nil());
    let headers = record.detach_headers().unwrap();
    let headers = headers.insert(Header { key: "ce_position", value: Some("42") });
    let record = record.replace_headers(Some(headers));
    assert_eq!(decode(&record, |_| ()), Err(RecordError::Twice("ce_position")));
}

#[test]
fn unknown_headers_are_left_alone() {
    let mut record = record_of(&event(), Uuid::nil());
    let mut headers = OwnedHeaders::new().insert(Header { key: "other", value: Some("x") });
    for header in record.detach_headers().unwrap().iter() {
        headers = headers.insert(Header { key: header.key, value: header.value });
    }
    let record = record.replace_headers(Some(headers));
    assert_eq!(decode(&record, |e| e.to_stored(7)), Ok(event()));
}

#[test]
fn foreign_keys_and_values_are_refused() {
    let record = record_of(&event(), Uuid::nil()).set_key(Some(b"other".to_vec()));
    assert_eq!(decode(&record, |_| ()), Err(RecordError::Key));
    for value in [None, Some(&b"[]"[..]), Some(&[0xff][..]), Some(&b""[..])] {
        let record = record_of(&event(), Uuid::nil()).set_payload(value.map(<[u8]>::to_vec));
        assert_eq!(decode(&record, |_| ()), Err(RecordError::Value));
    }
    let bare = record_of(&event(), Uuid::nil()).replace_headers(None);
    assert_eq!(decode(&bare, |_| ()), Err(RecordError::Missing("ce_specversion")));
}
