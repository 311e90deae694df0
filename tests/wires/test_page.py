"""The page about wires: its skeleton keeps the laws, composes, trains, and is caught when it lies."""

from test_docs import blocks, run


def test_skeleton_keeps_the_laws_composes_and_trains(tmp_path):
    skeleton, law = blocks("docs/writing-a-wire.md")[:2]
    use = """
test_dithered()
from fedsep import algorithms, data, fit, models, tasks, testing, wires
testing.check_wire(wires.topk(k=10, values=Dithered()), {"w": torch.linspace(-1, 2, 40)})
testing.check_wire(wires.error_feedback(Dithered()), {"w": torch.linspace(-1, 2, 40)})
torch.set_default_dtype(torch.float32)
federation = data.digits(clients=4)
task = tasks.classification(models.mlp(federation.shape, federation.classes, hidden=(8,)))
d = sum(part.numel() for part in task.init().values())
run = fit(algorithms.fedavg(task, uplink=Dithered()), task, federation, rounds=3, seed=0)
assert run.summary["bytes"]["up"] == d + 4, run.summary["bytes"]
"""
    wrong = skeleton.replace("codes = torch.round(", "codes = torch.floor(")
    assert wrong != skeleton
    caught = """
try:
    test_dithered()
except testing.LawBroken:
    print("caught")
"""
    body = wrong[wrong.index("STEPS = ") :]
    assert run(f"{skeleton}\n{law}\n{use}\n{body}\n{caught}", tmp_path) == "caught\n"
