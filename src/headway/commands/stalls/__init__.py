"""Commands about stalls: what holds a run or any process, and a watch around any command."""
