//! Reads `template.yaml` as far as these tests need it.

use highwater_tests::checkout;

/// The lines of one mapping of a YAML file, nested by their indentation. Lists, tags and folded texts
/// are lines like any other: whoever asks for a name must know that it is a member of a mapping.
pub struct Mapping(Vec<String>);

impl Mapping {
    pub fn template() -> Self {
        let text = checkout::text("template.yaml").unwrap();
        let lines = text.lines().filter(|line| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        });
        Self(lines.map(str::to_owned).collect())
    }

    /// The members: name, what stands on the name's line, and what is nested below it.
    pub fn members(&self) -> Vec<(String, String, Self)> {
        let indentation = |line: &str| line.len() - line.trim_start().len();
        let own = self.0.first().map_or(0, |line| indentation(line));
        let mut members: Vec<(String, String, Self)> = Vec::new();
        for line in &self.0 {
            if indentation(line) > own {
                let (_, _, nested) = members.last_mut().expect("nothing is nested at first");
                nested.0.push(line.clone());
            } else if let Some((name, value)) = line.split_once(':') {
                let value = value.split(" #").next().unwrap_or_default();
                members.push((name.trim().into(), value.trim().into(), Self(Vec::new())));
            }
        }
        members
    }

    /// What is nested below a member that must be there.
    pub fn nested(&self, name: &str) -> Self {
        self.member(name).1
    }

    /// What stands on the line of a member that must be there.
    pub fn value(&self, name: &str) -> String {
        self.member(name).0
    }

    fn member(&self, name: &str) -> (String, Self) {
        let mut members = self.members().into_iter();
        let found = members.find(|(member, ..)| member == name);
        let (_, value, nested) = found.unwrap_or_else(|| panic!("no {name} in the template"));
        (value, nested)
    }

    /// The resources of one type: logical name and properties.
    pub fn resources(&self, resource_type: &str) -> Vec<(String, Self)> {
        let resources = self.nested("Resources").members().into_iter();
        resources
            .filter(|(_, _, resource)| resource.value("Type") == resource_type)
            .map(|(name, _, resource)| (name, resource.nested("Properties")))
            .collect()
    }
}

#[test]
fn the_reader_sees_the_template_as_it_is() {
    let template = Mapping::template();
    assert_eq!(
        template.value("Transform"),
        "AWS::Serverless-2016-10-31",
        "a value with colons"
    );
    let parameters = template.nested("Parameters");
    assert_eq!(parameters.nested("TableName").value("Type"), "String");
    let [(name, table)] = &template.resources("AWS::DynamoDB::Table")[..] else {
        panic!("one table");
    };
    assert_eq!(
        (name.as_str(), table.value("BillingMode").as_str()),
        ("ControlTable", "PAY_PER_REQUEST")
    );
}
