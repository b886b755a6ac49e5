//! A shop's table: one table, several kinds of items, as single-table designs have them.

use serde_json::{Value, json};

/// The table's name.
pub const TABLE: &str = "shop";

/// How many kinds of items there are.
pub const SHAPES: u32 = 5;

/// The body of its `CreateTable` request.
pub fn create_table() -> Value {
    json!({
        "TableName": TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"}
        ],
        "KeySchema": [
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"}
        ],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by_status",
            "KeySchema": [{"AttributeName": "status", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"}
        }],
        "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        "Tags": [{"Key": "team", "Value": "checkout"}]
    })
}

/// Item number `n`: the same every time.
pub fn item(n: u32) -> Value {
    let mut random = fastrand::Rng::with_seed(u64::from(n));
    let customer = format!("customer#{:05}", n / SHAPES);
    match n % SHAPES {
        0 => profile(&customer, &mut random),
        1 => order(&customer, n, &mut random),
        2 => cart(&customer, &mut random),
        3 => review(&customer, n, &mut random),
        _ => session(&customer, n, &mut random),
    }
}

/// An item's key: its partition and its place there.
pub fn key(item: &Value) -> (String, String) {
    let text = |name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
    (text("pk"), text("sk"))
}

fn pick<'a>(random: &mut fastrand::Rng, words: &[&'a str]) -> &'a str {
    random.choice(words.iter().copied()).unwrap_or_default()
}

fn profile(customer: &str, random: &mut fastrand::Rng) -> Value {
    let first = pick(
        random,
        &[
            "Ada", "Björn", "Chiara", "Даша", "Emre", "Fatou", "健", "Łucja",
        ],
    );
    let last = pick(
        random,
        &[
            "Ngày",
            "Ferreira",
            "O'Neill",
            "van der Meer",
            "Smith",
            "Öztürk",
        ],
    );
    json!({
        "pk": {"S": customer},
        "sk": {"S": "profile"},
        "name": {"S": format!("{first} {last}")},
        "email": {"S": format!("{}@example.com", random.u32(..))},
        "balance": {"N": format!("{}.{:02}", random.i32(-500..90_000), random.u8(0..100))},
        "newsletter": {"BOOL": random.bool()},
        "phone": {"NULL": true},
        "notes": {"S": ""},
        "tags": {"SS": ["early adopter", "\"quoted\" \\ backslash", "🛒"]},
        "preferences": {"M": {"theme": {"S": "dark"}, "languages": {"L": [{"S": "en"}, {"S": "pt"}]}, "empty": {"M": {}}}}
    })
}

fn order(customer: &str, n: u32, random: &mut fastrand::Rng) -> Value {
    let lines: Vec<Value> = (0..random.usize(1..6))
        .map(|_| {
            json!({"M": {
                "sku": {"S": format!("SKU-{:06}", random.u32(0..1_000_000))},
                "quantity": {"N": random.u8(1..9).to_string()},
                "price": {"N": format!("{}.{:02}", random.u16(1..500), random.u8(0..100))}
            }})
        })
        .collect();
    json!({
        "pk": {"S": customer},
        "sk": {"S": format!("order#{n:08}")},
        "status": {"S": pick(random, &["open", "paid", "shipped", "returned"])},
        "lines": {"L": lines},
        "ledger_id": {"N": "12345678901234567890123456789012345678"}
    })
}

fn cart(customer: &str, random: &mut fastrand::Rng) -> Value {
    json!({
        "pk": {"S": customer},
        "sk": {"S": "cart"},
        "skus": {"NS": [random.u32(1..1000).to_string(), "2000.5", "-3"]},
        "lines": {"L": []},
        "coupon": {"S": format!("{{\"code\":\"{:04X}\"}},{{", random.u16(..))}
    })
}

fn review(customer: &str, n: u32, random: &mut fastrand::Rng) -> Value {
    let words = [
        "solid",
        "broke",
        "lovely",
        "too small",
        "würde ich wieder kaufen",
        "最高",
        "meh",
        "five stars",
    ];
    let text: Vec<&str> = (0..random.usize(5..60))
        .map(|_| pick(random, &words))
        .collect();
    json!({
        "pk": {"S": customer},
        "sk": {"S": format!("review#{n:08}")},
        "stars": {"N": random.u8(1..=5).to_string()},
        "text": {"S": text.join(" ")}
    })
}

fn session(customer: &str, n: u32, random: &mut fastrand::Rng) -> Value {
    // Base64 of 48 random bytes needs no padding: any 64 letters of the alphabet will do.
    let token: String = (0..64).map(|_| random.alphanumeric()).collect();
    json!({
        "pk": {"S": customer},
        "sk": {"S": format!("session#{n:08}")},
        "token": {"B": token},
        "fingerprints": {"BS": ["AAEC", "/wA="]},
        "expires": {"N": (1_900_000_000 + n).to_string()}
    })
}
