from tests.support.instance import Instance


def test_smoke(shared: Instance) -> None:
    key = shared.key()
    path = shared.service("demo")["access_path"]
    answer = shared.openai(key).chat.completions.create(
        model=path, messages=[{"role": "user", "content": "Say hi"}], max_tokens=5
    )
    assert answer.model == path
