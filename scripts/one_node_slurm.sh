#!/usr/bin/env bash
# A Slurm of one node, to try sweeps on: installs it on Debian or Ubuntu and starts it without systemd, as root.
#
#   scripts/one_node_slurm.sh start [FOLDER]   install if needed, start; prints what to export
#   scripts/one_node_slurm.sh stop  [FOLDER]   end the daemons that were started in this folder
#
# Accounting is off, nothing listens beyond this machine, and everything lives in FOLDER (default: /tmp/one-node-slurm).
set -euo pipefail

action=${1:-} folder=${2:-/tmp/one-node-slurm}

stop() {
  local pid
  for name in slurmd slurmctld munged; do
    if pid=$(cat "$folder/$name.pid" 2>/dev/null); then kill "$pid" 2>/dev/null || true; fi
  done
}

install() {
  if command -v slurmctld slurmd sbatch munged >/dev/null; then return; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client munge >"$folder/install.log" 2>&1 || { tail -n 20 "$folder/install.log"; exit 1; }
}

configure() {
  local host cores memory
  host=$(hostname -s) cores=$(nproc)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
  mkdir -p "$folder/state" "$folder/spool"
  cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=30
MinJobAge=86400
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  [ "$(id -u)" = 0 ] || { echo "run this as root: Slurm's daemons start jobs for users" >&2; exit 2; }
  mkdir -p "$folder"
  # The daemons refuse a folder that others may write to.
  chmod 755 "$folder"
  install
  stop
  configure
  export SLURM_CONF=$folder/slurm.conf
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  slurmctld -c
  slurmd -c
  for _ in $(seq 60); do
    if sinfo -h -o %T 2>/dev/null | grep -qx idle; then
      echo "export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.5
  done
  echo "Slurm did not come up: see $folder/*.log" >&2
  tail -n 5 "$folder"/*.log >&2
  exit 1
}

case $action in
  start) start ;;
  stop) stop ;;
  *) echo "write $0 start [FOLDER], or $0 stop [FOLDER]" >&2; exit 2 ;;
esac
