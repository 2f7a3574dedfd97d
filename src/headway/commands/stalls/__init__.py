"""Commands about stalls: diagnosis of a run or any process, and a guard around any command."""
