import { expect, test } from "bun:test";
import { Refusal } from "../failures.ts";
import { runTemplate } from "./run.ts";

const DATA = [
  {
    kind: "IPPoolList",
    items: [
      {
        kind: "IPPool",
        metadata: { name: "a", labels: { x: "1", b: "2" } },
        spec: { cidr: "10.0.0.0/8", natOutgoing: true, n: 3 },
      },
      { kind: "IPPool", metadata: { name: "b" }, spec: { cidr: "fd00::/8", list: ["p", "q"] } },
    ],
  },
];

test("templates print what Go's would", () => {
  const inner = (text: string): string => runTemplate(`{{range .}}{{range .Items}}${text}{{end}}{{end}}`, DATA);
  for (const [text, wanted] of [
    ["{{.ObjectMeta.Name}} {{.Spec.CIDR}};", "a 10.0.0.0/8;b fd00::/8;"],
    ["{{.Name}}{{.metadata.name}};", "aa;bb;"],
    ["{{if .Spec.NATOutgoing}}nat{{else if .Spec.List}}list{{else}}none{{end}};", "nat;list;"],
    ["{{with .Labels}}{{.x}}{{else}}-{{end}};", "1;-;"],
    ["{{range $k, $v := .Labels}}{{$k}}={{$v}},{{else}}none{{end}};", "b=2,x=1,;none;"],
    ["{{range $i, $v := .Spec.List}}{{$i}}{{$v}}{{end}}", "0p1q"],
    ['{{join .Spec.List ","}}|', "|p,q|"],
    ['{{joinAndTruncate .Spec.CIDR "," 7}} ', "10.0... fd00... "],
    ["{{- .Name -}}  \n", "ab"],
    ['{{/* no */}}{{"a\\tb"}}{{`c"d`}}', 'a\tbc"da\tbc"d'],
    ['{{printf "%-3s|%3d|%q" .Name .Spec.N .Kind}}\n', 'a  |  3|"IPPool"\nb  |   |"IPPool"\n'],
    ['{{.Name | printf "%s-%s" "x"}} ', "x-a x-b "],
    ['{{if and (eq .Name "a") (not .Spec.List)}}y{{else}}n{{end}}', "yn"],
    ['{{if or (ne .Name "a") false}}y{{else}}n{{end}}', "ny"],
    ['{{(index .Labels "x")}}{{len .Name}};', "11;1;"],
    ["{{$x := .Name}}{{if true}}{{$x = .Kind}}{{end}}{{$x}};", "IPPool;IPPool;"],
    ["{{(.Spec).CIDR}}{{println}}", "10.0.0.0/8\nfd00::/8\n"],
    ['{{config "asnumber"}}', "6451264512"],
    ["{{.Spec.List}}{{.Labels}};", "map[b:2 x:1];[p q];"],
  ] as const) {
    expect([text, inner(text)]).toEqual([text, wanted]);
  }
  expect(runTemplate("{{len .}}{{(index . 0).Kind}}", DATA)).toBe("1IPPoolList");
});

test("what is not supported or malformed is refused by name", () => {
  for (const [text, message] of [
    ['{{define "x"}}{{end}}', "{{define}} is not supported"],
    ['{{template "x"}}', "{{template}} is not supported"],
    ["{{range .}}{{break}}{{end}}", "{{break}} is not supported"],
    ["{{html .}}", 'function "html" is not supported, only and, or, not'],
    ["{{.a", "unclosed action"],
    ["{{if .}}", "{{if}} has no {{end}}"],
    ["{{end}}", "unexpected {{end}}"],
    ["{{$x}}", "undefined variable $x"],
    ["{{(.a}}", "( has no )"],
    ["{{.a ~}}", 'cannot read "~"'],
    ["{{1 2}}", "1 is no function"],
    ["{{index . 9}}", "index 9 is not from 0 to 0"],
    ['{{printf "%x" 1}}', "%x is not supported by printf"],
    ['{{config "x"}}', 'config "x" is not known'],
    ["{{.Name}}", "can't evaluate field Name"],
    ["{{}}", "a value is missing"],
  ] as const) {
    let said = "";
    try {
      runTemplate(text, DATA);
    } catch (error) {
      expect(error).toBeInstanceOf(Refusal);
      said = (error as Refusal).message;
    }
    expect([text, said]).toEqual([text, expect.stringContaining(message)]);
  }
});
