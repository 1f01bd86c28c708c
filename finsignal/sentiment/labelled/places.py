"""Where the labelled sets are published, under which licence, and the digests by which their files are known."""

from __future__ import annotations

from dataclasses import dataclass

HUB = "https://huggingface.co/datasets"
GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Member:
    """A file inside a published archive: its `name` there and its `path` in the data folder.

    `sha256` are the digests by which it is known without the archive; beside the archive, the archive decides.
    """

    name: str
    path: str
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class PublishedFile:
    """A file at its published address: its `path` in the data folder, its size in bytes and its digest.

    An archive has `members`, which are written beside it.
    """

    url: str
    path: str
    size: int
    sha256: str
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class PublishedSet:
    """A labelled set as others published it.

    `use` is "ship", where a model that is given away may be trained on it, or "research". `verified` says from where
    its digests are known, and what could not be verified when they were written down.
    """

    name: str
    about: str
    licence: str
    page: str
    use: str
    citation: str
    verified: str
    files: tuple[PublishedFile, ...]


_TFNS = f"{HUB}/zeroshot/twitter-financial-news-sentiment"
_SENTFIN = f"{GITHUB}/pyRis/SEntFiN/eba43610fe3cb57a3e5773cd6c037da1f8992ad5"
_PHRASEBANK = f"{HUB}/takala/financial_phrasebank"
_FIQA = f"{GITHUB}/elinsky/fiqa"
_STOCK = f"{GITHUB}/surge-ai/stock-sentiment"
_CRYPTO = f"{GITHUB}/surge-ai/crypto-sentiment/main"
_SURGE_LICENCE = "f6a134d41e0c0948ed2679e8601c7f8b957105792edd481977934715712ac674"

_SETS = (
    PublishedSet(
        name="tfns",
        about="Twitter Financial News Sentiment: 11,931 posts, negative, neutral or positive (bearish, bullish)",
        licence="MIT (as its card says)",
        page=_TFNS,
        use="ship",
        citation=f"zeroshot, Twitter Financial News Sentiment, 2022, {_TFNS}",
        verified="Digests of a copy collected from public repositories; as many characters as in another public copy "
        "of both files. The address names no revision and publishes no digest: a later edit there would be refused.",
        files=(
            PublishedFile(
                f"{_TFNS}/resolve/main/sent_train.csv",
                "tfns/sent_train.csv",
                868_189,
                "184e6322b7f0e84c3103a83d198f1be8203de8b63a857f67a2964321b71c4e8d",
            ),
            PublishedFile(
                f"{_TFNS}/resolve/main/sent_valid.csv",
                "tfns/sent_valid.csv",
                219_767,
                "393572beac5064ed60c9f608a57dc66af2b41a91b89c149932d5c57f827e25da",
            ),
        ),
    ),
    PublishedSet(
        name="sentfin",
        about="SEntFiN 1.0: 10,753 headlines, Indian market, a sentiment for each of 14,405 entities they name",
        licence="MIT",
        page="https://github.com/pyRis/SEntFiN",
        use="ship",
        citation="Sinha, Kedas, Kumar, Malo, SEntFiN 1.0: Entity-aware sentiment analysis for financial news, 2022, "
        "doi:10.1002/asi.24634",
        verified="The digest of the table is also published by another project that took it from this repository; "
        "the revision is one that others pin. The licence was compared by its text.",
        files=(
            PublishedFile(
                f"{_SENTFIN}/SEntFiN.csv",
                "sentfin/SEntFiN.csv",
                1_118_162,
                "570af7ba58f724f3fcc414dd5ba80da5b1a3b342134d76c6ebdf53a32c54a92f",
            ),
            PublishedFile(
                f"{_SENTFIN}/LICENSE",
                "sentfin/LICENSE",
                1_110,
                "961d32986ac3fa2fe2e55ebc7bbae1ba8d632412e98493d73bdf59f0ad8fc65f",
            ),
        ),
    ),
    PublishedSet(
        name="phrasebank",
        about="Financial PhraseBank 1.0: 4,846 sentences of Finnish companies' news, by how many annotators agreed",
        licence="CC BY-NC-SA 3.0 (non-commercial, share alike)",
        page=_PHRASEBANK,
        use="research",
        citation="Malo, Sinha, Korhonen, Wallenius, Takala, Good debt or bad debt: Detecting semantic orientations in "
        "economic texts, 2014, doi:10.1002/asi.23062",
        verified="Size and digest of the archive as published with the set (dataset_infos.json) and by others; one of "
        "the authors keeps it there. The digests of what is in it are those of copies: by the published sizes three "
        "levels are the same text, and the all-agree level is Latin-1 there, where a common copy is UTF-8.",
        files=(
            PublishedFile(
                f"{_PHRASEBANK}/resolve/598b6aad98f7c8d67be161b12a4b5f2497e07edd/data/FinancialPhraseBank-v1.0.zip",
                "phrasebank/FinancialPhraseBank-v1.0.zip",
                681_890,
                "0e1a06c4900fdae46091d031068601e3773ba067c7cecb5b0da1dcba5ce989a6",
                members=tuple(
                    Member(f"FinancialPhraseBank-v1.0/{name}", f"phrasebank/{name}", digests)
                    for name, digests in (
                        (
                            "Sentences_50Agree.txt",
                            ("13388b8bf2f878c68fb4d47564fa0072756eb4e9ba4a16467d6d7f0a29a6a742",),
                        ),
                        (
                            "Sentences_66Agree.txt",
                            ("6fcda6c07b5731fa075c81372413c921f95057b89ed611be0b2d1620ac94ac09",),
                        ),
                        (
                            "Sentences_75Agree.txt",
                            ("8aa3210c6fc324ec2f5bd903f7767543280525cd88bb6cbed5d39b33f01a4f05",),
                        ),
                        (
                            "Sentences_AllAgree.txt",
                            (
                                "3d1acdf23036bdbfb48713548731b1ae82664e551081fec2f20bfe722d274d9a",  # Latin-1
                                "b3cb762d2eb8c8fe50d6d53ac073afbd217dd01e4c6e04167ac9b8de9e42d3ca",  # UTF-8
                            ),
                        ),
                        ("License.txt", ("fa4f941ef92f40d55dd34ddea45d96a20672607d152698bc160f8db3af5e36c7",)),
                    )
                ),
            ),
        ),
    ),
    PublishedSet(
        name="fiqa",
        about="FiQA 2018 task 1: 1,111 headlines and posts, a score in [-1, 1] for each of 1,173 targets",
        licence="none stated (its copies claim different ones)",
        page="https://sites.google.com/view/fiqa/home",
        use="research",
        citation="Maia, Handschuh, Freitas, Davis, McDermott, Zarrouk, Balahur, WWW'18 Open Challenge: Financial "
        "Opinion Mining and Question Answering, 2018, doi:10.1145/3184558.3192301",
        verified="From a public copy, at a fixed revision, of what the challenge gave to its participants; its own "
        "site has no address that a program could fetch from. Digests of a copy collected from public repositories; "
        "each file has as many characters as at this address.",
        files=tuple(
            PublishedFile(f"{_FIQA}/{revision}/data/{name}", f"fiqa/{name}", size, digest)
            for revision, name, size, digest in (
                (
                    "fc9ccc970ef045ea3dbb798406722a8a55b08d3d",
                    "task1_headline_ABSA_train.json",
                    112_846,
                    "f19c87f9b6aed5a167c44e08660dbe0ad4655b4476d5bfc4065ff194c4395120",
                ),
                (
                    "fc9ccc970ef045ea3dbb798406722a8a55b08d3d",
                    "task1_headline_ABSA_test.json",
                    34_847,
                    "461258bb5aec13e9ed811cbe38def957c42b9e36a6c0ad51c9d8559e14d8f0f5",
                ),
                (
                    "6ab672bef44be35fdbe51ee925e17132b5dc2f2e",
                    "task1_post_ABSA_train.json",
                    193_776,
                    "54525e07d8d26f9666c0ea83dc3aa1f892ac4f4ea107d83ce24845190083444a",
                ),
                (
                    "6ab672bef44be35fdbe51ee925e17132b5dc2f2e",
                    "task1_post_ABSA_test.json",
                    33_158,
                    "5d15e178608e5098772e375745c43328d12ee53c84870bce858f8f0eda62586c",
                ),
            )
        ),
    ),
    PublishedSet(
        name="surge",
        about="Surge AI: 500 posts about shares and 562 about crypto, positive or negative only",
        licence="MIT",
        page="https://github.com/surge-ai/stock-sentiment and https://github.com/surge-ai/crypto-sentiment",
        use="ship",
        citation="Surge AI, Stock Sentiment and Crypto Sentiment, 2022, https://github.com/surge-ai",
        verified="Digests of copies collected from public repositories. Shares: as many characters as at the revision "
        "named. Crypto: no revision with these bytes is known; the one that was seen differs from them by a column "
        "of row numbers alone, so its main branch is asked, and refused if it gives anything else.",
        files=(
            PublishedFile(
                f"{_STOCK}/c82156a0aad9273badbca31ddc50271c7d72972e/sentiment.csv",
                "surge_stock/sentiment.csv",
                109_372,
                "0881734a966c47bcb7c4262e0b1c2eec9a8d6c2f0f7023924741858d68a32527",
            ),
            PublishedFile(
                f"{_STOCK}/37b66d3dd4c79d54b7f44bbaa9497197c77aa76c/LICENSE",
                "surge_stock/LICENSE",
                1_065,
                _SURGE_LICENCE,
            ),
            PublishedFile(
                f"{_CRYPTO}/sentiment.csv",
                "surge_crypto/sentiment.csv",
                196_626,
                "687b66669a0e3e51b87b2e1678bb814375d64fcad1992280a2eff67229870fa8",
            ),
            PublishedFile(f"{_CRYPTO}/LICENSE", "surge_crypto/LICENSE", 1_065, _SURGE_LICENCE),
        ),
    ),
)

PUBLISHED: dict[str, PublishedSet] = {published.name: published for published in _SETS}
