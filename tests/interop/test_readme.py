"""How walk-throughs are taken out of a page, which the tests that run README rely on."""

from __future__ import annotations

import pytest

from tests.interop.readme import walkthroughs

PAGE = """
Start it:

<!-- test: certbot -->
```sh
certbot certonly
```

Then

<!-- test: certbot -->

```sh
certbot renew
```

1. A list:

   <!-- test: est by curl -->
   ```console
   $ curl \\
   > https://localhost:5001/x
   ok
   ```

```sh
not tested
```
"""


def test_blocks_of_one_name_are_one_walkthrough() -> None:
    found = walkthroughs(PAGE)
    assert list(found) == ["certbot", "est by curl"]
    assert found["certbot"].script == "certbot certonly\ncertbot renew\n"
    assert found["certbot"].language == "sh"


def test_prompts_and_answers_are_left_out() -> None:
    walkthrough = walkthroughs(PAGE)["est by curl"]
    assert walkthrough.script == "curl \\\nhttps://localhost:5001/x\n"
    assert ":6001/" in walkthrough.replaced({":5001": ":6001"}).script


def test_a_word_that_does_not_occur_is_a_fault() -> None:
    with pytest.raises(ValueError, match="5999"):
        walkthroughs(PAGE)["certbot"].replaced({"5999": "6001"})


def test_a_mark_without_a_block_is_a_fault() -> None:
    with pytest.raises(ValueError, match="not followed"):
        walkthroughs("<!-- test: lost -->\n\nwords\n\n```sh\nx\n```\n")
