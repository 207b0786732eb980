"""Ids, against the reference tokenizer; how text is read; the command that learns a vocabulary."""

import json

import pytest
from transformers import BertTokenizer

from bertlib.corpus import Corpus
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.texts import read_documents
from bertlib.plumbing.vocab import SPECIAL_TOKENS, judge, load_vocab, save_vocab
from bertlib.tokens import Tokenizer, main, split_texts, train_vocab


def paragraphs(count: int) -> list[str]:
    texts = []
    for path in sorted((PROJECT / "wiki" / "input").glob("*.xz")):
        for document in read_documents(path):
            texts += document
            if len(texts) >= count:
                return texts[:count]
    raise AssertionError("the corpus is too small")


def test_ids_agree_with_the_reference_on_1000_paragraphs(tokenizer):
    reference = BertTokenizer.from_pretrained(PROJECT / "wiki" / "vocab", do_lower_case=True)
    texts = [*paragraphs(999), "Ünïcode: naïve café, 北京! it's ## [MASK] \t half-way..."]
    ours = [tokenizer.encode(text) for text in texts]
    theirs = reference(texts, truncation=False)["input_ids"]
    assert ours == theirs
    assert sum(map(len, ours)) > 20_000


def test_a_vocabulary_alone_tells_no_longest_input(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert "model_max_length" not in (tmp_path / "tokenizer_config.json").read_text()


def test_special_ids_are_found_by_name_wherever_they_stand(tmp_path):
    vocab = ["a", "[SEP]", "b", "[MASK]", "[CLS]", "[UNK]", "[PAD]", "##c"]
    save_vocab(vocab, tmp_path / "vocab.txt")
    tokenizer = Tokenizer.load(tmp_path)
    special = tokenizer.special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (6, 5, 4, 1, 3)
    assert tokenizer.encode("A bc [MASK]") == [4, 0, 2, 7, 3, 1]
    assert tokenizer.ordinary_ids == [0, 2, 7]


def test_training_learns_frequent_words_and_round_trips(tmp_path):
    vocab = train_vocab(["the lighthouse shines on the sea"] * 50, size=120)
    assert vocab[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert {"lighthouse", "the"} <= set(vocab)
    tokenizer = Tokenizer(vocab)
    assert tokenizer.decode(tokenizer.encode("The lighthouse")) == "the lighthouse"


def test_a_cased_vocabulary_keeps_capitals():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Paris", "paris"])
    assert tokenizer.tokens(tokenizer.encode("Paris", False)) == ["Paris"]


def test_the_hash_ignores_line_ends_and_sees_order(tmp_path):
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    (tmp_path / "w.txt").write_bytes("\r\n".join(lines).encode())
    assert Tokenizer.load(tmp_path / "w.txt").sha256 == Tokenizer(lines).sha256
    assert Tokenizer([*lines[:5], "b", "a"]).sha256 != Tokenizer(lines).sha256


@pytest.mark.parametrize("strip", [None, False, True])
@pytest.mark.parametrize("lower", [False, True])
def test_ids_agree_with_the_reference_for_all_rules(tmp_path, lower, strip):
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéèÉüÜñ北京!?'#[]"
    vocab = [*SPECIAL_TOKENS, *letters, *(f"##{c}" for c in letters), "The", "the", "café", "Cafe"]
    Tokenizer(vocab, lower, strip).save(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (lower, strip)
    reference = BertTokenizer.from_pretrained(tmp_path)
    for text in ("The Café, the cafe\u0301 in 北京!", "ÜBER Über uber ñ [MASK] ?", "É è Е́"):
        assert tokenizer.encode(text) == reference(text)["input_ids"], text


def test_a_copy_reads_chinese_as_it_says(tmp_path):
    save_vocab([*SPECIAL_TOKENS, "北", "京", "北京"], tmp_path / "vocab.txt")
    for split, wanted in ((True, ["北", "京"]), (False, ["北京"])):
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"tokenize_chinese_chars": split}))
        tokenizer = Tokenizer.load(tmp_path / "vocab.txt")
        assert tokenizer.tokens(tokenizer.encode("北京", False)) == wanted
        (tmp_path / "copy").mkdir(exist_ok=True)
        tokenizer.save(tmp_path / "copy")
        assert Tokenizer.load(tmp_path / "copy").encode("北京") == tokenizer.encode("北京")


def test_a_few_capitals_do_not_make_a_vocabulary_cased(tokenizer):
    names = [*tokenizer.vocab, "[URL]", "<URL>", "Ⅷ", "USA"]
    mixed = Tokenizer(names)
    assert mixed.lowercase and "1 of" in mixed.verdict() and "judged" in mixed.verdict()
    assert mixed.special.unk not in mixed.encode("The President")
    chinese = ["<S>", "<T>", *(f"[unused{n}]" for n in range(99)), "的", "一", "Ⅷ", "app", "##たい"]
    assert judge([*SPECIAL_TOKENS, *chinese]).lowercase
    cased = [word.capitalize() if n % 6 == 0 else word for n, word in enumerate(tokenizer.vocab)]
    assert not judge([*SPECIAL_TOKENS, *cased]).lowercase  # fewer than BERT's third


def test_the_file_beside_the_vocabulary_overrules_its_words(tmp_path, tokenizer):
    save_vocab(tokenizer.vocab, tmp_path / "vocab.txt")
    assert "tokenizer_config.json" in Tokenizer.load(tmp_path).verdict()  # how to overrule
    rules = tmp_path / "tokenizer_config.json"
    rules.write_text('{"do_lower_case": false, "model_max_length": 512}')
    said = Tokenizer.load(tmp_path)
    assert not said.lowercase and said.verdict() == "cased, says tokenizer_config.json"
    assert said.sha256 == tokenizer.sha256
    rules.write_text('{"strip_accents": false}')
    assert Tokenizer.load(tmp_path).verdict().startswith("uncased with accents, judged")


@pytest.mark.parametrize(("content", "words"), [
    ("{", "is damaged"), ("[]", "Expected `object`"),
    ('{"do_lower_case": 1}', "do_lower_case is 1"),
    ('{"do_lower_case": null}', "do_lower_case is None"),
    ('{"strip_accents": "no"}', "strip_accents is 'no'"),
    ('{"tokenizer_class": "BertJapaneseTokenizer"}', "BertJapaneseTokenizer"),
])
def test_bad_rules_are_refused(tmp_path, tokenizer, content, words):
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer_config.json") as error:
        Tokenizer.load(tmp_path)
    assert words in str(error.value)


def test_a_mask_is_special_in_a_question_and_text_in_a_text(tokenizer):
    text = "the [MASK] and [PAD] [SEP] end"
    special = {tokenizer.special.mask, tokenizer.special.pad, tokenizer.special.sep}
    batch = tokenizer.encode_batch([text])[0].ids
    assert not special & set(batch) and tokenizer.special.unk not in batch
    assert tokenizer.decode(batch).replace(" ", "") == text.lower().replace(" ", "")
    assert special < set(tokenizer.encode(text))  # after the batch, too
    stream = list(tokenizer.encode_stream([([text], 1)]))
    assert stream[0][0][0].ids == batch


def test_the_unknown_sign_is_one_unk_in_any_vocabulary(tokenizer):
    first = tokenizer.unknown_sign
    cased = [*SPECIAL_TOKENS, "The", "A", "##" + first]
    for vocab in (tokenizer.vocab, [*tokenizer.vocab, first], cased):
        own = Tokenizer(vocab)
        sign, unk = own.unknown_sign, own.special.unk
        assert len(sign) == 1 and sign not in vocab
        the = own.encode_batch(["the"])[0].ids
        assert own.encode_batch([f"{sign} the {sign} the {sign}"])[0].ids == [
            unk, *the, unk, *the, unk]
    assert Tokenizer([*tokenizer.vocab, first]).unknown_sign != first


def test_the_command_learns_from_the_training_split_only(tmp_path, capsys):
    text, folder = tmp_path / "text.txt", tmp_path / "vocab"
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]  # one a document
    text.write_text("".join(f" = {w} = \n {f'{w} ' * 20}\n" for w in words), encoding="utf-8")
    main(["-i", str(text), "-o", str(folder), "--size", "120"])
    said = capsys.readouterr().out
    assert "120 tokens, uncased, 0.000% [UNK]" in said and said.count("\n") == 1
    vocab = Tokenizer.load(folder).vocab
    assert len(vocab) == 120 and (folder / "tokenizer_config.json").exists()
    learned = {number for number, texts in Corpus(text) if texts[1].split()[0] in vocab}
    assert learned == {0}
    assert sum(t.startswith("= ") for t in split_texts(Corpus(text), "val")) == 15


def test_the_command_holds_the_size_or_refuses(tmp_path, refused):
    text, folder = tmp_path / "text.txt", tmp_path / "vocab"
    text.write_text("the lighthouse shines on the sea\n" * 50, encoding="utf-8")
    common = ("-i", text, "-o", folder)
    assert "alphabet" in (said := refused(main, *common, "--size", 20)) and "larger size" in said
    assert "smaller --size" in refused(main, *common, "--size", 5000)
    assert "-3" in refused(main, *common, "--size=-3")
    assert "does not exist" in refused(main, "-i", tmp_path / "no.txt", "-o", folder, "--size", 9)
    assert not folder.exists()
    assert "create it first" in refused(main, "-i", text, "-o", folder / "deep", "--size", 60)
    assert "is a file" in refused(main, "-i", text, "-o", text, "--size", 60)


def test_the_command_does_not_replace_a_vocabulary_unasked(own, refused, capsys):
    text, folder = own / "input" / "text.txt", own / "vocab"
    before = (folder / "vocab.txt").read_bytes()
    common = ("-i", text, "-o", folder, "--size", 80)
    said = refused(main, *common)
    assert "3 dataset files" in said and "--force" in said
    assert (folder / "vocab.txt").read_bytes() == before
    main([*map(str, common), "--force", "--cased"])
    assert len(load_vocab(folder)) == 80
    assert Tokenizer.load(folder).verdict() == "cased, says tokenizer_config.json"


def test_characters_beyond_the_alphabet_are_counted_and_named(tmp_path, capsys):
    text = tmp_path / "text.txt"
    signs = [chr(0x4E00 + n) for n in range(1100)]
    lines = ["".join(signs[:900]) * 3, "".join(signs), signs[1000] * 2]
    text.write_text("\n".join(lines), encoding="utf-8")
    main(["-i", str(text), "-o", str(tmp_path / "vocab"), "--size", "1005"])
    first, second, _ = capsys.readouterr().out.split("\n")
    assert first.startswith("100 characters are left out") and "at most 1,000" in first
    assert "1,005 tokens, uncased, " in second
