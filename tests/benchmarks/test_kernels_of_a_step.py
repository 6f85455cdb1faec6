"""benchmarks/kernels.py, on tiny loops, and the count of instructions of compile_for_gpu.py."""

import json
from types import SimpleNamespace as Fake

import pytest

TINY = ("--recipe", "smoke", "--model.stem", 4, "--model.stages", 4, "--train.chunk-steps", 2)

PTX = """.version 9.0
.visible .entry scale(
	.param .u64 .ptr .align 16 scale_param_0
)
.reqntid 128, 1, 1
{
	.reg .pred 	%p<2>;
	.reg .b32 	%r<9>;
// a remark;
	ld.param.b64 	%rd1, [scale_param_0];
$L__BB0_1:
	ld.global.nc.v4.b16 	{%rs1, %rs2, %rs3, %rs4}, [%rd1];
	@%p1 bra 	$L__BB0_1;
	ret;

}
.visible .entry other()
{
	ret;
}
"""

LAUNCHES = """001: kCustomKernel [source | next=002 (1)] scale grid: [10, 2, 1] threads: [128, 1, 1]
002: kWhile [prev=001 (1) | sink]
  001: kCustomKernel [source | sink] other grid: [3, 1, 1] threads: [33, 1, 1]  shared_memory: 0
  002: kGemm [source | sink] of a library
"""


def test_instructions_are_those_of_all_warps(module, tmp_path):
    warp_instructions = module("instructions").warp_instructions
    (tmp_path / "module_0001.jit_f.1.ptx").write_text(PTX)
    with pytest.raises(ValueError, match="no launch of a kernel"):
        warp_instructions(tmp_path)
    launches = tmp_path / "module_0001.jit_f.thunk_sequence.txt"
    launches.write_text(LAUNCHES)
    assert warp_instructions(tmp_path) == 4 * 10 * 2 * 4 + 3 * 2
    launches.write_text(LAUNCHES.replace("other", "unknown"))
    with pytest.raises(ValueError, match="no PTX of the kernel unknown"):
        warp_instructions(tmp_path)


@pytest.mark.parametrize("members", [1, 2])
def test_kernels_of_a_loop(benchmark, assert_rates, members):
    done = benchmark("kernels", *TINY, "--members", members, "--calls", 3, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["side_by_side"], report["steps_of_call"], report["calls"]) == (members, 2, 3)
    assert 1e3 * members * 50 / report["milliseconds_a_step"] == pytest.approx(
        report["images_per_second"]
    )
    kernels = report["kernels"]
    assert len(kernels) > 20
    times = [one["microseconds_a_step"] for one in kernels]
    assert times == sorted(times, reverse=True)
    assert report["kernel_milliseconds_a_step"] == pytest.approx(sum(times) / 1e3)
    assert sum(one["times_a_step"] == 1 for one in kernels) > 10  # once in each of the two steps
    assert not [one for one in kernels if one["name"].startswith(("while", "call"))]


def test_kernels_of_the_first_gpu(module):
    def plane(name, *events):
        made = [Fake(name=n, duration_ns=ns, stats=[("hlo_op", n)]) for n, ns in events]
        streams = [Fake(name=f"Stream #{i}", events=made[i:j]) for i, j in ((0, 1), (1, 9))]
        return Fake(name=name, lines=[*streams, Fake(name="XLA Modules", events=made)])

    planes = [
        plane("/host:CPU", ("on the host", 9e9)),
        plane("/device:GPU:1", ("elsewhere", 9e9)),
        plane("/device:GPU:0", ("short", 1_000), ("long", 3_000), ("short", 1_500), ("long", 500)),
    ]
    assert module("kernels").kernels_of(Fake(planes=planes), 2) == [
        {"name": "long", "times_a_step": 1.0, "microseconds_a_step": 1.75},
        {"name": "short", "times_a_step": 1.0, "microseconds_a_step": 1.25},
    ]


def test_a_table_of_kernels(benchmark):
    done = benchmark("kernels", *TINY, "--calls", 1)
    assert done.returncode == 0, done.stderr
    *rows, last = done.stdout.splitlines()
    assert rows[0].split() == ["times", "a", "step", "us", "a", "step"]
    assert "by kind:" in rows
    assert last.startswith("smoke, float32, 1 side by side: ")
    assert last.endswith(" images/s")


def test_a_mistake_is_one_line(refusal, assert_refused):
    for words, message in (
        (("--recipe", "nothing"), "no such config file"),
        (("--calls", "0"), "must be a whole number of at least 1, not '0'"),
        (("--model.dtpe", "x"), "did you mean --model.dtype"),
        (("--distill.teacher", "nowhere"), "distill.teacher must be a folder of exported weights"),
    ):
        assert_refused(refusal("kernels", *words), "kernels.py: ", message)
