// Reads the XML that our own tools write, strictly: what is not well-formed throws. No namespaces,
// comments, CDATA or processing instructions, since we write none.

export interface XmlElement {
  name: string;
  attributes: Record<string, string>;
  children: XmlElement[];
  /** The text directly in it, entities replaced. */
  text: string;
}

const entities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  '#39': "'",
};

function unescape(text: string): string {
  return text.replace(/&([^;]*;?)/g, (_, name: string) => {
    const letter = entities[name.slice(0, -1)];
    if (letter === undefined || !name.endsWith(';')) throw new Error(`bad entity &${name}`);
    return letter;
  });
}

function readAttributes(text: string): Record<string, string> {
  const attributes: Record<string, string> = {};
  const rest = text.replace(/\s+([\w-]+)="([^"<]*)"/g, (_, name: string, value: string) => {
    if (name in attributes) throw new Error(`attribute ${name} twice`);
    attributes[name] = unescape(value);
    return '';
  });
  if (rest.trim() !== '') throw new Error(`not attributes: ${rest}`);
  return attributes;
}

/** The root element. Throws with what is wrong. */
export function readXml(source: string): XmlElement {
  const document: XmlElement = { name: '', attributes: {}, children: [], text: '' };
  const open = [document];
  for (const [token, tag] of source.matchAll(/<([^<>]*)>|[^<]+|</g)) {
    const parent = open.at(-1)!;
    if (tag === undefined) {
      if (/[<>]/.test(token)) throw new Error(`a lone ${token.slice(0, 20)}`);
      parent.text += unescape(token);
    } else if (tag.startsWith('/')) {
      if (open.length === 1 || parent.name !== tag.slice(1)) throw new Error(`<${tag}> not open`);
      open.pop();
    } else {
      const [, name = '', rest = '', end] = /^([\w-]+)(.*?)(\/?)$/s.exec(tag) ?? [];
      if (name === '') throw new Error(`not a tag: <${tag}>`);
      const element = { name, attributes: readAttributes(rest), children: [], text: '' };
      parent.children.push(element);
      if (end === '') open.push(element);
    }
  }
  const [root] = document.children;
  if (open.length > 1) throw new Error(`<${open.at(-1)!.name}> is not closed`);
  if (root === undefined || document.children.length > 1 || document.text.trim() !== '')
    throw new Error('not one element');
  return root;
}
