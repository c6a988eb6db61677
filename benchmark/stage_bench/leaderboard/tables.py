from stage_bench.leaderboard.wording import MODEL_FACTS as MODEL_FACTS
from stage_bench.leaderboard.wording import MARK as MARK
from stage_bench.leaderboard.wording import escape as escape
from stage_bench.leaderboard.wording import inputs as inputs
from stage_bench.leaderboard.wording import plain as plain
from stage_bench.leaderboard.wording import seconds_text as seconds_text
from stage_bench.leaderboard.wording import short_inputs as short_inputs
