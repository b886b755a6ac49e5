/** A template as CloudFormation would see it: conditions decided, functions resolved, resources under names that two templates share. */
import * as yaml from "yaml";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Template = { [name: string]: any };

/** Reads YAML with CloudFormation's short tags, `!Ref X` as `{"Ref": "X"}`. */
export function read(text: string): Template {
  const names = ["Sub", "If", "Equals", "Not", "And", "Or", "Join", "Split", "Select"];
  const long = (tag: string) => (tag === "Ref" || tag === "Condition" ? tag : `Fn::${tag}`);
  const scalar = (tag: string) => ({
    tag: `!${tag}`,
    resolve: (value: string) =>
      tag === "GetAtt" ? { "Fn::GetAtt": value.split(/\.(.*)/s).slice(0, 2) } : { [long(tag)]: value },
  });
  const customTags: any[] = ["Ref", "Condition", "GetAtt", "Sub"].map(scalar);
  for (const name of names) {
    customTags.push({
      tag: `!${name}`,
      collection: "seq",
      resolve: (seq: yaml.YAMLSeq) => {
        const pair = new yaml.YAMLMap();
        pair.set(`Fn::${name}`, seq);
        return pair;
      },
    });
  }
  return yaml.parse(text, { customTags });
}

/** A template with its parameters. `rename` gives the name that a resource has in both templates. */
export class Deployed {
  constructor(
    private readonly template: Template,
    private readonly parameters: { [name: string]: string | string[] },
    private readonly rename: (logicalId: string) => string = (id) => id,
  ) {}

  /** The resources of a type that are made: properties under the name that both templates share. */
  resources(type: string): Map<string, any> {
    const made = new Map<string, any>();
    for (const [id, resource] of Object.entries<any>(this.template.Resources)) {
      const is = resource.Type === type && (resource.Condition === undefined || this.condition(resource.Condition));
      if (is) made.set(this.rename(id), this.resolve(resource.Properties ?? {}));
    }
    return made;
  }

  /** What a section beside the resources says. */
  section(...path: string[]): any {
    return this.resolve(path.reduce((value, name) => value[name], this.template));
  }

  private condition(name: string): boolean {
    return this.resolve(this.template.Conditions[name]) === true;
  }

  private reference(name: string): any {
    const pseudo: { [name: string]: string } = {
      "AWS::Partition": "aws",
      "AWS::Region": "eu-west-1",
      "AWS::AccountId": "123456789012",
      "AWS::StackName": "nightly",
      "AWS::URLSuffix": "amazonaws.com",
    };
    if (name in pseudo) return pseudo[name];
    if (name in this.parameters) return this.parameters[name];
    const parameter = this.template.Parameters?.[name];
    if (parameter !== undefined) {
      if (parameter.Default === undefined) throw new Error(`${name} has no value`);
      return parameter.Type === "CommaDelimitedList" ? String(parameter.Default).split(",") : String(parameter.Default);
    }
    const resource = this.template.Resources[name];
    if (resource === undefined) throw new Error(`there is no ${name}`);
    return resource.Type.endsWith("StateMachine") ? this.attribute(name, "Arn") : `<${this.rename(name)}>`;
  }

  private attribute(id: string, attribute: string): string {
    const resource = this.template.Resources[id];
    if (resource === undefined) throw new Error(`there is no ${id}`);
    if (attribute === "Arn" && resource.Type === "AWS::S3::Bucket") return `arn:aws:s3:::<${this.rename(id)}>`;
    return `<${this.rename(id)}.${attribute}>`;
  }

  resolve(value: any): any {
    if (Array.isArray(value)) return value.map((it) => this.resolve(it)).filter((it) => it !== undefined);
    if (value === null || typeof value !== "object") return value;
    const members = Object.entries<any>(value);
    if (members.length === 1) {
      const [name, argument] = members[0];
      if (name === "Ref") return argument === "AWS::NoValue" ? undefined : this.reference(argument);
      if (name === "Condition" && typeof argument === "string") return this.condition(argument);
      if (name.startsWith("Fn::")) return this.call(name.slice(4), argument);
    }
    return Object.fromEntries(
      members.map(([name, it]) => [name, this.resolve(it)]).filter(([, it]) => it !== undefined),
    );
  }

  private call(name: string, argument: any): any {
    const part = (index: number) => this.resolve(argument[index]);
    switch (name) {
      case "If":
        return this.condition(argument[0]) ? part(1) : part(2);
      case "GetAtt":
        return this.attribute(argument[0], argument[1]);
      case "Equals":
        return String(part(0)) === String(part(1));
      case "Not":
        return !part(0);
      case "And":
        return argument.every((it: any) => this.resolve(it) === true);
      case "Or":
        return argument.some((it: any) => this.resolve(it) === true);
      case "Join":
        return part(1).join(argument[0]);
      case "Split":
        return part(1).split(argument[0]);
      case "Select": {
        const found = part(1)[Number(argument[0])];
        if (found === undefined) throw new Error(`nothing is at ${argument[0]} of ${JSON.stringify(part(1))}`);
        return found;
      }
      case "Sub": {
        const [text, own] = typeof argument === "string" ? [argument, {}] : argument;
        return text.replace(/\$\{(!?)([^}]+)\}/g, (_all: string, literal: string, of: string) => {
          if (literal) return `\${${of}}`;
          if (of in own) return this.resolve(own[of]);
          const [id, attribute] = of.split(".");
          return attribute === undefined ? this.reference(of) : this.attribute(id, attribute);
        });
      }
      default:
        throw new Error(`Fn::${name} is not understood`);
    }
  }
}
