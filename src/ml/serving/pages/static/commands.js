// A request as somebody repeats it elsewhere: in a terminal, or in a program.

/** The command for curl; in single quotes a shell reads everything as it stands, but them. */
export function curl(url, body, needsKey = false) {
  const key = needsKey ? ' \\\n     -H "Authorization: Bearer $API_KEY"' : "";
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl -N -X POST ${url} \\\n     -H "Content-Type: application/json"${key} \\\n     -d '${quoted}'`;
}

/** A program that asks for a chat completion and writes it as it comes. */
export function python(base, body, needsKey = false) {
  const given = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value)},\n`).join("");
  return `${needsKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${literal(String(base))}, api_key=${needsKey ? 'os.environ["API_KEY"]' : '"none"'})
stream = client.chat.completions.create(
${given})
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
`;
}

/** A value in Python; texts and numbers stand there as in JSON. */
function literal(value, indent = "    ") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  const inner = `${indent}    `;
  if (Array.isArray(value)) return `[\n${value.map((one) => `${inner}${literal(one, inner)},\n`).join("")}${indent}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, one]) => `${literal(name)}: ${literal(one, inner)}`).join(", ")}}`;
}
