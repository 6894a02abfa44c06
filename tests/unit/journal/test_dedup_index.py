"""The index remembers exactly what was committed and has not expired, through aborts, crashes and damage."""

import random
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.journal.dedup_entries import BLOCKS, RUN_KEY, SEGMENTS
from sidecar.journal.dedup_index import DedupEntry, DedupIndex
from sidecar.journal.limits import dedup_bytes, dedup_keys

TINY = {"recent_keys": 8, "segment_keys": 32, "bucket_keys": 4, "part_bytes": 16}
USUAL = {"recent_keys": 1 << 16, "segment_keys": 1 << 20, "bucket_keys": 1 << 10, "part_bytes": 65_504}
OPS = 12


def digest(n: int) -> bytes:
    return random.Random(n).randbytes(16)


def entry(seq: int, expires_at_ms: int, source: int = 1) -> DedupEntry:
    return DedupEntry(seq, 1_700_000_000_000 + seq, 3, seq.to_bytes(4), expires_at_ms, source)


class CountingCursor:
    def __init__(self, txn, db):
        self._cursor = txn._txn.cursor(db=db)
        self._counter = txn

    def __getattr__(self, name):
        if name in ("set_range", "delete", "next"):
            self._counter.ops += 1
        if name == "delete":
            self._counter.writes += 1
        return getattr(self._cursor, name)


class CountingTxn:
    """A transaction that counts its LMDB operations."""

    def __init__(self, txn):
        self._txn = txn
        self.ops = 0
        self.writes = 0

    def cursor(self, db):
        return CountingCursor(self, db)

    def __getattr__(self, name):
        if name in ("get", "put", "delete", "stat"):
            self.ops += 1
        if name in ("put", "delete"):
            self.writes += 1
        return getattr(self._txn, name)


class Store:
    """An LMDB environment with an index and the seqs of its batches."""

    def __init__(self, path, *, max_bytes=1 << 30, **sizes):
        self.path = Path(path)
        self.kwargs = {"max_bytes": max_bytes, **TINY, **sizes}
        self.seq = 0
        self.most_ops = 0
        self.open()

    def open(self):
        self.env = lmdb.open(str(self.path), map_size=1 << 28, max_dbs=2, sync=False, subdir=True)
        self.db = self.env.open_db(b"dedup")
        self.index = self.loaded()

    def loaded(self) -> DedupIndex:
        index = DedupIndex(self.env, self.db, **self.kwargs)
        with self.env.begin() as txn:
            index.load(txn)
        return index

    def reopen(self):
        self.env.close()
        self.open()

    @contextmanager
    def txn(self, *, commit=True):
        txn = self.env.begin(write=True)
        counting = CountingTxn(txn)
        yield counting
        if commit:
            txn.commit()
            self.index.committed()
        else:
            txn.abort()
            self.index.aborted()

    def maintain(self, txn, now_ms, max_ops=OPS):
        before = txn.ops
        self.index.maintain(txn, now_ms, max_ops=max_ops)
        self.most_ops = max(self.most_ops, txn.ops - before)
        assert txn.ops - before <= max_ops

    def batch(self, claims, now_ms, *, commit=True, maintain="after", max_ops=OPS):
        """Claim the keys that are free; give what was claimed."""
        made = {}
        with self.txn(commit=commit) as txn:
            if maintain == "before":
                self.maintain(txn, now_ms, max_ops)
            for key, ttl_ms, source in claims:
                if self.index.find(txn, key, now_ms) is None:
                    self.seq += 1
                    made[key] = entry(self.seq, now_ms + ttl_ms, source)
                    self.index.stage(key, made[key])
                    assert self.index.find(txn, key, now_ms) == made[key]
            if made:
                self.index.write(txn, self.seq - len(made) + 1)
            if maintain == "after":
                self.maintain(txn, now_ms, max_ops)
        return made

    def find(self, key, now_ms, index=None):
        with self.env.begin() as txn:
            return (index or self.index).find(txn, key, now_ms)

    def rows(self, prefix=b""):
        with self.env.begin() as txn:
            return [bytes(k) for k, _ in txn.cursor(db=self.db) if bytes(k).startswith(prefix)]

    def damage(self, key, at):
        with self.env.begin(write=True) as txn:
            value = bytearray(txn.get(key, db=self.db))
            value[at] ^= 1
            txn.put(key, bytes(value), db=self.db)

    def quiesce(self, now_ms, most=500):
        """Maintain until nothing is done any more."""
        for _ in range(most):
            with self.txn() as txn:
                before = self.index._draft
                self.maintain(txn, now_ms)
                if self.index._draft is before and not txn.writes:
                    return
        raise AssertionError("maintenance does not come to an end")

    def fill(self, n, now_ms, *, ttl_ms=10_000, size=4, start=0, **kwargs):
        """Claim n keys in batches; give them with their entries."""
        made = {}
        for i in range(start, start + n, size):
            made |= self.batch([(digest(k), ttl_ms, 1) for k in range(i, min(i + size, start + n))], now_ms, **kwargs)
        return made


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.env.close()


def check_all(store, model, now_ms, index=None):
    index = index or store.index
    for key, value in model.items():
        expected = value if value.expires_at_ms > now_ms else None
        assert store.find(key, now_ms, index) == expected
        assert expected is None or index.maybe(key)


class Model(RuleBasedStateMachine):
    """The index against a dict, with constants so small that every path is taken within a few steps."""

    @initialize(
        recent=st.sampled_from([1, 4, 8]),
        segment=st.sampled_from([8, 32]),
        bucket=st.sampled_from([1, 4, 64]),
        part=st.sampled_from([1, 16, 1000]),
        secret=st.sampled_from([b"", b"0123456789abcdef"]),
    )
    def begin(self, recent, segment, bucket, part, secret):
        self.dir = tempfile.mkdtemp()
        self.store = Store(
            self.dir, recent_keys=recent, segment_keys=segment, bucket_keys=bucket, part_bytes=part, secret=secret
        )
        self.model = {}
        self.now_ms = 1_000

    def teardown(self):
        if hasattr(self, "store"):
            self.store.env.close()
            shutil.rmtree(self.dir)

    @rule(
        keys=st.lists(st.integers(0, 120), min_size=1, max_size=12),
        ttl=st.sampled_from([50, 400, 400, 3000]),
        commit=st.sampled_from([True, True, True, False]),
        maintain=st.sampled_from(["before", "after", "after", "never"]),
        max_ops=st.sampled_from([6, 12, 32]),
    )
    def claim(self, keys, ttl, commit, maintain, max_ops):
        claims = [(digest(k), ttl, k % 3) for k in keys]
        free = {d for d, _, _ in claims if d not in self.model or self.model[d].expires_at_ms <= self.now_ms}
        made = self.store.batch(claims, self.now_ms, commit=commit, maintain=maintain, max_ops=max_ops)
        assert set(made) == free
        if commit:
            self.model |= made

    @rule(times=st.integers(1, 12), max_ops=st.sampled_from([6, 12, 32]), commit=st.booleans())
    def upkeep(self, times, max_ops, commit):
        for _ in range(times):
            with self.store.txn(commit=commit) as txn:
                self.store.maintain(txn, self.now_ms, max_ops)

    @rule(by=st.sampled_from([1, 49, 50, 200, 1000]))
    def advance(self, by):
        self.now_ms += by

    @rule()
    def crash(self):
        self.store.index = self.store.loaded()

    @rule()
    def reopen(self):
        self.store.reopen()

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def remembers(self):
        for k in range(121):
            key = digest(k)
            value = self.model.get(key)
            expected = value if value is not None and value.expires_at_ms > self.now_ms else None
            assert self.store.find(key, self.now_ms) == expected
            assert expected is None or self.store.index.maybe(key)
        assert self.store.index.corrupt == 0
        assert self.store.index.evicted_early == {}


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=25,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_keys_stay_known_on_their_way_from_memory_through_every_segment(store):
    model = {}
    for step in range(100):
        model |= store.fill(4, 1_000 + step, start=step * 4)
        check_all(store, model, 1_000 + step)
    assert len(store.index._view.segments) > 2
    assert store.rows(SEGMENTS)
    assert store.index.keys == pytest.approx(400, abs=20)


def test_all_is_known_after_a_crash_at_any_commit(tmp_path):
    """A copy of the environment after each commit opens with all keys, and sealing ends from there."""
    store = Store(tmp_path / "live")
    model = {}
    copies = 0
    for step in range(40):
        model |= store.fill(4, 1_000, start=step * 4, max_ops=6)
        path = tmp_path / f"copy{step}"
        path.mkdir()
        store.env.copy(str(path))
        copy = Store(path)
        copy.seq = store.seq
        check_all(copy, model, 1_000)
        copies += copy.index._view.run is not None and not copy.index._view.run.sealed
        later = copy.fill(24, 1_000, start=1_000 + step * 24)
        copy.quiesce(1_000)
        check_all(copy, model | later, 1_000)
        assert copy.index.keys == len(model) + len(later)
        assert copy.index.corrupt == 0
        copy.env.close()
    assert copies > 5, "the run was hardly ever cut short"
    store.env.close()


def test_a_run_cut_short_leaves_no_second_copy_in_its_buckets(store):
    store.fill(8, 1_000, maintain="never")
    while not any(k[5] == 2 for k in store.rows(SEGMENTS)):
        with store.txn() as txn:
            store.maintain(txn, 1_000, 6)
    assert not store.index._view.run.sealed
    assert store.index._view.step > 0
    store.index = store.loaded()
    assert store.index._view.step == 0
    store.fill(8, 1_000, start=8)
    store.quiesce(1_000)
    buckets = [k for k in store.rows(SEGMENTS) if k[5] == 2]
    with store.env.begin() as txn:
        stored = b"".join(bytes(txn.get(k, db=store.db)) for k in buckets)
    assert all(stored.count(digest(k)) == 1 for k in range(16))


@pytest.mark.parametrize("maintain", ["before", "after"])
def test_an_aborted_transaction_leaves_no_trace(tmp_path, maintain):
    """Each transaction is aborted once before it is committed, so every slice of upkeep is undone once."""
    store = Store(tmp_path)
    model = {}
    for step in range(120):
        claims = [(digest(step * 2 + i), 300, 1) for i in range(2)]
        now_ms = 1_000 + step * 5
        seq, keys, view = store.seq, store.index.keys, store.index._view
        store.batch(claims, now_ms, commit=False, maintain=maintain)
        assert (store.index.keys, store.index._view) == (keys, view)
        store.seq = seq
        assert all(store.find(d, now_ms) is None for d, _, _ in claims)
        model |= store.batch(claims, now_ms, maintain=maintain)
        check_all(store, model, now_ms)
        check_all(store, model, now_ms, store.loaded())
    store.env.close()


def test_nothing_is_left_once_all_has_expired(store):
    store.fill(150, 1_000)
    store.quiesce(20_000)
    assert store.rows() == []
    assert store.index.keys == 0
    assert store.index.evicted_early == {}


def test_few_keys_expire_without_ever_being_sealed(store):
    """At a low rate the generations in memory come and go with the life of their keys."""
    for step in range(100):
        store.batch([(digest(step), 300, 1)], 1_000 + 100 * step)
    assert len(store.rows(BLOCKS)) <= 8
    assert store.rows(SEGMENTS) == []
    assert store.index.keys <= 8


def test_a_segment_takes_an_eighth_of_the_life_of_its_keys(store):
    """At a middling rate segments are closed by age, and their filters are as small as their keys are few."""
    model = {}
    for step in range(400):
        model |= store.batch([(digest(step), 1_000, 1)], 1_000 + step * 8)
        check_all(store, {k: v for k, v in model.items() if v.seq > step - 140}, 1_000 + step * 8)
    segments = store.index._view.segments
    assert 4 <= len(segments) <= 18
    assert all(s.capacity <= 16 for s in segments)
    assert store.index.keys < 300


def test_an_expired_key_can_be_claimed_again_while_its_old_entry_is_still_in_a_segment(store):
    store.fill(40, 1_000, ttl_ms=100)
    store.fill(8, 1_050, ttl_ms=5_000, start=100)
    store.quiesce(1_050)
    assert any(s.keys for s in store.index._view.segments)
    again = store.fill(40, 1_200, ttl_ms=100)
    assert len(again) == 40
    check_all(store, again, 1_200)
    check_all(store, again, 1_200, store.loaded())


def test_the_entry_that_took_an_expired_ones_place_is_found_before_it(store):
    """Both are in segments: the older one lives on for the sake of the other keys in it."""
    claims = [(digest(k), 100 if k < 4 else 50_000, 1) for k in range(8)]
    model = store.batch(claims, 1_000) | store.fill(24, 1_000, ttl_ms=50_000, start=100)
    store.quiesce(1_000)
    new = store.fill(4, 1_200, ttl_ms=40_000)
    assert set(new) == {digest(k) for k in range(4)}
    model |= new | store.fill(40, 1_200, ttl_ms=40_000, start=200)
    store.quiesce(1_200)
    in_memory = store.index._view.newer.packed()
    assert not any(key in in_memory for key in new)
    check_all(store, model, 1_200)


def test_a_block_right_behind_a_sealed_run_stays(store):
    made = store.fill(8, 1_000, size=1, maintain="never")
    with store.txn() as txn:
        store.maintain(txn, 1_000)
    made |= store.fill(1, 1_000, start=8, maintain="never")
    store.quiesce(1_000)
    assert [int.from_bytes(k[1:]) for k in store.rows(BLOCKS)] == [9]
    check_all(store, made, 1_000, store.loaded())


def test_a_secret_keeps_the_places_of_keys_from_being_chosen(tmp_path):
    plain, mixed = Store(tmp_path / "plain"), Store(tmp_path / "mixed", secret=b"sixteen bytes...")
    for store, seen in ((plain, True), (mixed, False)):
        made = store.fill(20, 1_000)
        check_all(store, made, 1_000, store.loaded())
        with store.env.begin() as txn:
            stored = b"".join(bytes(v) for _, v in txn.cursor(db=store.db))
        assert any(key in stored for key in made) == seen
        store.env.close()


def test_a_duplicate_within_one_transaction_finds_the_first_ones_claim(store):
    made = store.batch([(digest(1), 100, 1), (digest(1), 100, 1)], 1_000)
    assert made == {digest(1): entry(1, 1_100)}


def test_a_claim_that_expired_within_its_transaction_is_absent(store):
    with store.txn(commit=False) as txn:
        store.index.stage(digest(1), entry(1, 1_000))
        assert store.index.find(txn, digest(1), 1_000) is None


def test_every_field_of_an_entry_comes_back(store):
    full = DedupEntry(2**48 - 1, 2**48 - 1, 2**32 - 1, b"\xff" * 4, 2**48 - 1, 2**16 - 1, 255)
    with store.txn() as txn:
        store.index.stage(digest(1), full)
        store.index.write(txn, 1)
    assert store.find(digest(1), 5) == full
    assert store.find(digest(1), 5, store.loaded()) == full


def test_an_empty_transaction_changes_nothing(store):
    with store.txn() as txn:
        store.index.write(txn, 1)
        store.maintain(txn, 1_000)
    assert store.rows() == []


def test_staged_keys_must_be_written_before_the_commit(store):
    store.index.stage(digest(1), entry(1, 2_000))
    with pytest.raises(AssertionError):
        store.index.committed()


def test_blocks_must_come_in_order(store):
    """Sealing deletes blocks up to a seq, so a block below it would go unsealed."""
    store.fill(8, 1_000, maintain="never")
    with store.txn() as txn:
        store.maintain(txn, 1_000)
    with store.txn(commit=False) as txn:
        store.index.stage(digest(99), entry(3, 2_000))
        with pytest.raises(AssertionError):
            store.index.write(txn, 3)


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_ops", [6, 7, 13, 32])
def test_no_slice_takes_more_operations_than_allowed(tmp_path, max_ops):
    store = Store(tmp_path, max_bytes=40 * 4096)
    for step in range(300):
        store.fill(6, 1_000 + step * 20, ttl_ms=900, start=step * 6, size=3, max_ops=max_ops)
    assert max_ops * 2 // 3 <= store.most_ops <= max_ops, "the bound was never tried"
    store.env.close()


def test_upkeep_keeps_pace_with_the_claims(store):
    """Memory holds at most two generations at the usual batch sizes."""
    for step in range(200):
        store.fill(2, 1_000, start=step * 2, size=2, max_ops=32)
        view = store.index._view
        assert view.newer.count + (view.older.count if view.older else 0) <= 2 * 8


def test_large_batches_are_taken_and_sealed(store):
    model = store.fill(600, 1_000, size=100)
    store.quiesce(1_000)
    check_all(store, model, 1_000)
    check_all(store, model, 1_000, store.loaded())
    assert store.rows(RUN_KEY) == []


def test_maybe_is_true_without_reason_for_less_than_2_percent_for_each_segment(tmp_path):
    store = Store(tmp_path, recent_keys=256, segment_keys=1024, bucket_keys=64)
    model = store.fill(2_816, 1_000, size=64, max_ops=200)
    store.quiesce(1_000)
    segments = store.index._view.segments
    assert any(s.keys == s.capacity for s in segments)
    assert all(store.index.maybe(key) for key in model)
    wrong = sum(store.index.maybe(digest(k)) for k in range(100_000, 110_000))
    assert wrong < 200 * len(segments)
    store.env.close()


def test_maybe_sees_every_committed_key_while_the_writer_works(tmp_path):
    store = Store(tmp_path, recent_keys=64, segment_keys=256, bucket_keys=16)
    known, missed, done = [], [], threading.Event()

    def ask():
        while not done.is_set():
            missed.extend(key for key in list(known) if not store.index.maybe(key))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for step in range(150):
            known.extend(store.fill(8, 1_000, start=step * 8, size=8))
    finally:
        done.set()
        thread.join()
    assert missed == []
    assert store.index._view.segments
    store.env.close()


def test_memory_is_counted(store):
    before = store.index.memory_bytes
    store.fill(100, 1_000)
    assert store.index.memory_bytes > before > 0


def test_the_constants_shrink_with_the_room():
    with tempfile.TemporaryDirectory() as path:
        env = lmdb.open(path, max_dbs=1)
        db = env.open_db(b"dedup")
        assert DedupIndex(env, db, max_bytes=4 << 30)._sizes[:2] == (1 << 16, 1 << 20)
        assert DedupIndex(env, db, max_bytes=256 << 20)._sizes[:2] == (1 << 16, 1 << 19)
        assert DedupIndex(env, db, max_bytes=4 << 20)._sizes[:2] == (2048, 8192)
        assert DedupIndex(env, db, max_bytes=1)._sizes[:2] == (256, 1024)
        env.close()


# --- early eviction ------------------------------------------------------------------------------


def test_the_oldest_keys_go_early_when_there_is_no_room_and_are_counted_by_source(tmp_path):
    store = Store(tmp_path, max_bytes=60 * 4096, recent_keys=64, segment_keys=256, bucket_keys=16)
    made = {}
    for step in range(1_500):
        claims = [(digest(step * 4 + i), 1_000_000, 1 + i % 2) for i in range(4)]
        made |= store.batch(claims, 1_000, max_ops=32)
    store.quiesce(1_000)
    gone = [store.find(key, 1_000) is None for key in made]
    assert gone[0]
    assert not any(gone[-1_000:])
    assert gone == sorted(gone, reverse=True), "not the oldest went"
    assert sum(store.index.evicted_early.values()) == sum(gone)
    assert set(store.index.evicted_early) == {1, 2}
    with store.env.begin() as txn:
        stat = txn.stat(store.db)
    assert (stat["leaf_pages"] + stat["overflow_pages"] + stat["branch_pages"]) * stat["psize"] <= 60 * 4096
    store.env.close()


@pytest.mark.parametrize("brief", [1, 10], ids=["one ttl", "nine keys of ten with a tenth of it"])
@pytest.mark.parametrize("times", [1, 2])
def test_the_longest_ttl_times_the_rate_of_all_keys_is_what_fits(tmp_path, times, brief):
    """As ``check`` prints it; twice as much does not fit, so the figure says something."""
    map_bytes = 4 << 20
    store = Store(tmp_path, max_bytes=dedup_bytes(map_bytes), **USUAL)
    ttl_ms = dedup_keys(map_bytes) * times  # one key a millisecond
    for now_ms in range(0, 3 * ttl_ms, 64):
        claims = [(digest(now_ms + i), ttl_ms if i % 10 == 0 else ttl_ms // brief, 1) for i in range(64)]
        store.batch(claims, now_ms, max_ops=32)
    assert bool(store.index.evicted_early) == (times == 2)
    store.env.close()


def test_keys_go_unsealed_when_not_even_one_segment_has_room(tmp_path):
    store = Store(tmp_path, max_bytes=1, recent_keys=16)
    with store.txn() as txn:
        txn.put(b"a", b"keeps the table from being empty", db=store.db)
    store.index._unmeasured = 100
    with store.txn() as txn:
        store.maintain(txn, 1_000)
    made = store.batch([(digest(k), 10 if k < 3 else 1_000, k % 2) for k in range(10)], 1_000, maintain="never")
    store.quiesce(1_020)
    assert [store.find(key, 1_020) for key in made] == [None] * 10
    assert store.index.evicted_early == {0: 3, 1: 4}
    assert store.rows(SEGMENTS) == store.rows(BLOCKS) == []
    more = store.fill(40, 1_020, start=50)
    store.quiesce(1_020)
    gone = sum(store.find(key, 1_020) is None for key in more)
    assert sum(store.index.evicted_early.values()) == 7 + gone
    assert gone > 30
    store.env.close()


def test_a_run_that_has_begun_ends_before_its_keys_can_go(store):
    made = store.fill(8, 1_000, maintain="never")
    with store.txn() as txn:
        store.maintain(txn, 1_000, 6)
    store.index._sizes = store.index._sizes._replace(max_bytes=1)
    store.index._unmeasured = 100
    with store.txn() as txn:
        store.maintain(txn, 1_000, 6)
    assert store.index.evicted_early == {}
    check_all(store, made, 1_000)
    check_all(store, made, 1_000, store.loaded())


def test_expired_segments_make_room_before_living_ones(store):
    old = store.fill(64, 1_000, ttl_ms=1_000_000)
    store.fill(64, 1_000, ttl_ms=5, start=100)
    store.fill(64, 1_000, ttl_ms=1_000_000, start=200)
    store.quiesce(1_000)
    store.index._sizes = store.index._sizes._replace(max_bytes=1)
    short = [s.id for s in store.index._view.segments if s.last_expiry_ms <= 1_010]
    assert short
    with store.txn() as txn:
        store.index._unmeasured = 100
        store.maintain(txn, 1_010)
    assert store.index._view.dropping == (short[0],)
    assert store.index.evicted_early == {}
    check_all(store, old, 1_010)


def test_nothing_more_is_evicted_while_rows_still_go(store):
    store.fill(120, 1_000)
    store.quiesce(1_000)
    segments = len(store.index._view.segments)
    store.index._sizes = store.index._sizes._replace(max_bytes=1)
    for _ in range(3):
        store.index._unmeasured = 100
        with store.txn() as txn:
            store.maintain(txn, 1_000, 6)
    assert len(store.index._view.dropping) == 1
    assert len(store.index._view.segments) == segments - 1


def test_rows_that_go_keep_going_while_sealing_is_behind(store):
    """With batches so large that every slice is full of sealing, an expired segment is still deleted."""
    store.fill(40, 1_000, ttl_ms=10)
    store.quiesce(1_000)
    gone = {s.id for s in store.index._view.segments}
    assert gone
    behind = 0
    for step in range(80):
        store.fill(200, 2_000, ttl_ms=100_000, start=1_000 + step * 200, size=200)
        behind += store.index._view.newer.count >= 8
    assert behind == 80
    assert not gone & {int.from_bytes(k[1:5]) for k in store.rows(SEGMENTS)}


def test_an_aborted_eviction_is_not_counted(tmp_path):
    store = Store(tmp_path)
    made = store.fill(64, 1_000)
    store.quiesce(1_000)
    store.index._sizes = store.index._sizes._replace(max_bytes=1)
    store.index._unmeasured = 100
    with store.txn(commit=False) as txn:
        store.maintain(txn, 1_000)
        assert store.index._draft.evicted != {}
    assert store.index.evicted_early == {}
    check_all(store, made, 1_000)
    store.env.close()


# --- damage --------------------------------------------------------------------------------------


def sealed_store(path):
    """One with keys in segments, and in blocks: 64 of them, all alive at 1,000."""
    store = Store(path)
    made = store.fill(64, 1_000)
    store.quiesce(1_000)
    made |= store.fill(4, 1_000, start=64, maintain="never")
    return store, made


def survivors(store, made):
    return sum(store.find(key, 1_000) is not None for key in made)


def test_a_damaged_block_is_skipped_and_the_others_are_read(store):
    made = store.fill(6, 1_000, size=2)
    store.damage(store.rows(BLOCKS)[1], 30)
    store.reopen()
    assert survivors(store, made) == 4
    assert store.index.corrupt == 1
    store.fill(30, 1_000, start=100)
    store.quiesce(1_000)
    assert all(not k.startswith(BLOCKS) or int.from_bytes(k[1:]) > 6 for k in store.rows()), "it was never deleted"


def test_a_block_that_is_no_whole_number_of_entries_is_skipped(store):
    from sidecar.journal.dedup_entries import block_key, seal_frame

    with store.env.begin(write=True) as txn:
        txn.put(block_key(1), seal_frame(0, b"x" * 47), db=store.db)
    assert store.loaded().corrupt == 1


def test_a_damaged_bucket_loses_that_share_only_and_heals_with_the_next_run(tmp_path):
    store, made = sealed_store(tmp_path)
    last = store.index._view.segments[-1].id
    bucket = next(k for k in store.rows(SEGMENTS) if k[5] == 2 and int.from_bytes(k[1:5]) == last)
    store.damage(bucket, -1)
    assert len(made) - 12 <= survivors(store, made) < len(made)
    assert store.index.corrupt > 0
    more = store.fill(20, 1_000, start=200)
    store.quiesce(1_000)
    assert survivors(store, more) == 20
    store.index.corrupt = 0
    survivors(store, made)
    segment = store.index._view.segments[-1]
    assert store.index.corrupt == 0 or segment.id != last
    store.env.close()


def test_a_damaged_filter_part_forgets_nothing(tmp_path):
    store, made = sealed_store(tmp_path)
    for key in [k for k in store.rows(SEGMENTS) if k[5] == 1]:
        store.damage(key, -1)
    store.reopen()
    assert store.index.corrupt > 0
    assert survivors(store, made) == len(made)
    assert all(store.index.maybe(key) for key in made)
    store.env.close()


def test_a_damaged_segment_row_costs_its_keys_and_nothing_else(tmp_path):
    store, made = sealed_store(tmp_path)
    first = store.index._view.segments[0]
    store.damage(next(k for k in store.rows(SEGMENTS) if k[5] == 0), 20)
    store.reopen()
    assert store.index.corrupt == 1
    assert survivors(store, made) == len(made) - first.keys
    store.quiesce(1_000)
    assert not [k for k in store.rows(SEGMENTS) if int.from_bytes(k[1:5]) == first.id]
    store.env.close()


@pytest.mark.parametrize("slices", range(1, 14))
def test_a_damaged_run_row_costs_no_key(tmp_path, slices):
    store = Store(tmp_path)
    made = store.fill(12, 1_000, maintain="never")
    for _ in range(slices):
        with store.txn() as txn:
            store.maintain(txn, 1_000, 6)
    if store.rows(RUN_KEY):
        store.damage(RUN_KEY, 20)
        store.reopen()
        assert store.index.corrupt == 1
    check_all(store, made, 1_000)
    made |= store.fill(30, 1_000, start=100)
    store.quiesce(1_000)
    check_all(store, made, 1_000)
    check_all(store, made, 1_000, store.loaded())
    store.env.close()


def test_a_damaged_row_of_the_segment_being_filled_costs_no_key_of_the_run(store):
    made = store.fill(8, 1_000, maintain="never")
    for _ in range(2):
        with store.txn() as txn:
            store.maintain(txn, 1_000, 6)
    store.damage(next(k for k in store.rows(SEGMENTS) if k[5] == 0), 20)
    store.reopen()
    assert store.index.corrupt == 1
    check_all(store, made, 1_000)
    made |= store.fill(30, 1_000, start=100)
    store.quiesce(1_000)
    check_all(store, made, 1_000)
    check_all(store, made, 1_000, store.loaded())


@pytest.mark.parametrize("seed", range(60))
def test_no_flipped_bit_makes_a_false_duplicate_or_an_exception(tmp_path, seed):
    """Any bit of any value: whatever is found is an entry as it was committed."""
    store, made = sealed_store(tmp_path)
    rng = random.Random(seed)
    key = rng.choice(store.rows())
    with store.env.begin() as txn:
        size = len(txn.get(key, db=store.db))
    store.damage(key, rng.randrange(size))
    store.reopen()
    for d, value in made.items():
        assert store.find(d, 1_000) in (value, None)
    assert all(store.find(digest(k), 1_000) is None for k in range(1_000, 1_200))
    store.fill(40, 1_000, start=2_000)
    store.quiesce(1_000)
    store.env.close()
