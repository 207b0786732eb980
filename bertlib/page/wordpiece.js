// Text to ids as BERT reads it: washed, cut into words, and those into the longest pieces that the
// vocabulary holds. Source: tokenization.py of google-research/bert.
//
//     const { ids, offsets } = new WordPiece(vocab, rules).encode(text);
//
// Both equal those of bertlib.tokens, but for characters that Unicode took in, or thought over,
// since 2015: a browser knows them, the library `tokenizers` does not.

const GONE = /[\0\uFFFD\p{Cc}\p{Cf}\p{Co}]/u;  // control, format and private characters, but
const SPACE = /\s/u;                           // the tab and the ends of lines are spaces
const PUNCTUATION = /[\p{P}!-\/:-@[-`{-~]/u;   // and all signs of ASCII, such as $ and +
const CHINESE = new RegExp("[\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\u{20000}-\u{2A6DF}"
  + "\u{2A700}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{2F800}-\u{2FA1F}]", "u");
const LONGEST_WORD = 100;  // characters; a longer word is unknown
const SPECIAL = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/;

class WordPiece {
  // vocab: the tokens in the order of their ids. rules: those of transformers.BertTokenizer.
  constructor(vocab, rules) {
    this.vocab = vocab;
    this.ids = new Map(vocab.map((token, id) => [token, id]));
    this.lowercase = rules.do_lower_case;
    this.stripAccents = rules.strip_accents ?? rules.do_lower_case;
    this.splitChinese = rules.tokenize_chinese_chars;
  }

  // Ids of `text` as [CLS] ... [SEP], and of each the place [start, end] of its letters in `text`;
  // [MASK] and the other special tokens, written so, are themselves. An Error says what is wrong.
  encode(text) {
    const half = text.search(/\p{Cs}/u) + 1;
    if (half) throw new Error(`Letter ${half} of the text is half a character; take it out.`);
    const ids = [this.ids.get("[CLS]")], offsets = [[0, 0]];
    let start = 0;
    for (const part of text.split(SPECIAL)) {
      const found = SPECIAL.test(part) ? [[this.ids.get(part), start, start + part.length]]
        : this.words(part, start).flatMap((word) => this.pieces(word));
      for (const [id, from, to] of found) {
        ids.push(id);
        offsets.push([from, to]);
      }
      start += part.length;
    }
    ids.push(this.ids.get("[SEP]"));
    return { ids, offsets: [...offsets, [0, 0]] };
  }

  // The words of a text that begins at `start`: each a list of [character, start, end].
  words(text, start) {
    const words = [[]], cut = () => words.push([]);
    const alone = (letter) => words.push([letter], []);
    for (const sign of text) {
      const end = start + sign.length;
      if (/[\t\n\r]/.test(sign) || (SPACE.test(sign) && !GONE.test(sign))) {
        cut();
      } else if (!GONE.test(sign)) {
        const chinese = this.splitChinese && CHINESE.test(sign);
        if (chinese) cut();
        for (const letter of this.wash(sign)) {
          if (PUNCTUATION.test(letter)) alone([letter, start, end]);
          else words.at(-1).push([letter, start, end]);
        }
        if (chinese) cut();
      }
      start = end;
    }
    return words.filter((word) => word.length);
  }

  // A character as it is looked up: none or several, if it is parted from its accents.
  wash(sign) {
    if (this.stripAccents) sign = sign.normalize("NFD").replace(/\p{Mn}/gu, "");
    return this.lowercase ? sign.toLowerCase() : sign;
  }

  // A word as [id, start, end] of each piece: always the longest that fits. If there is none, or
  // if the word is too long, all of it is one [UNK].
  pieces(word) {
    const unknown = [[this.ids.get("[UNK]"), word[0][1], word.at(-1)[2]]], found = [];
    if (word.length > LONGEST_WORD) return unknown;
    for (let start = 0, end; start < word.length; start = end) {
      let id;
      for (end = word.length + 1; id === undefined && --end > start;) {
        const letters = word.slice(start, end).map(([letter]) => letter).join("");
        id = this.ids.get(start ? `##${letters}` : letters);
      }
      if (id === undefined) return unknown;
      found.push([id, word[start][1], word[end - 1][2]]);
    }
    return found;
  }
}
