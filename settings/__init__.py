"""Interim, replaced by the settings package in a moment."""
from typing import Any
from pydantic import BaseModel, Secret, model_validator, ConfigDict, Field
from pathlib import Path
ENV={"type","enabled","priority","required","depends_on","pipelines","timeout","metadata","options"}
class ProviderSettings(BaseModel):
    model_config=ConfigDict(extra="forbid",frozen=True)
    type:str|None=None; enabled:bool=True; priority:int=50; required:bool=False
    depends_on:tuple[str,...]=(); pipelines:tuple[str,...]=("*",); timeout:float|None=None
    metadata:dict[str,Any]={}; options:Secret[dict[str,Any]]=Secret({})
    @model_validator(mode="before")
    @classmethod
    def b(cls,d):
        if isinstance(d,dict):
            o=d.get("options",{}); o=o if isinstance(o,dict) else o.get_secret_value()
            return {k:v for k,v in d.items() if k in ENV-{"options"}}|{"options":{**{k:v for k,v in d.items() if k not in ENV},**o}}
        return d
class FamilySettings(BaseModel):
    default:str|None=None; providers:dict[str,ProviderSettings]={}
class LifecycleSettings(BaseModel):
    init_timeout:float=30; dispose_timeout:float=10; graceful_shutdown_timeout:float=30
class R(BaseModel):
    lifecycle:LifecycleSettings=LifecycleSettings()
class Settings(BaseModel):
    storage:FamilySettings=FamilySettings(); data_sources:FamilySettings=FamilySettings(); ai:FamilySettings=FamilySettings(); images:FamilySettings=FamilySettings(); audio:FamilySettings=FamilySettings(); flashcards:FamilySettings=FamilySettings()
    registry:R=R(); home:Path=Path(".purveyor")
    def origin(self,p): return "PURVEYOR_"+"__".join(p).upper()
def explain(e,model): return [(tuple(map(str,x["loc"])),x["msg"]) for x in e.errors()]

class SettingsError(ValueError):
    problems = ()
    code = "INVALID_CONFIG"
def load_settings(**k): return Settings(**k)
